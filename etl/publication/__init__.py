"""How a version is published: exact shards, the files beside them, one Delta commit."""
