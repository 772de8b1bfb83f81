"""What `ringlake-etl forget` does: finding a person's records, removing them, remembering their hashes alone."""
