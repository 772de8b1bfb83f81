"""Run of the pipeline: stages, completion, increments, the lock, the audit trail, metrics."""
