"""Spark jobs that turn raw records into published shards, one module a stage."""
