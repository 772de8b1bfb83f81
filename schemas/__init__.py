"""The contract between the data jobs (`etl`) and the training (`training`): configuration, tables, manifest, storage."""
