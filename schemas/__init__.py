"""Contract between `etl` and `training`: configuration, tables, manifest, storage."""
