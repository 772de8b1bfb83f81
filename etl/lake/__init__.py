"""Delta tables: reading, writing, what their logs note, tombstones."""
