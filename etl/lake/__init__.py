"""Delta tables: reading, writing, facts in their logs, tombstones."""
