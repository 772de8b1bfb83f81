"""Spark session, persisted frames, skew, partitions, Arrow batches, sampling."""
