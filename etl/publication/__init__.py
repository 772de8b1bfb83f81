"""Publication of a version: exact shards, the files beside them, one Delta commit."""
