"""Erasure for `ringlake-etl forget`: find a person's records, remove them, keep only hashes."""
