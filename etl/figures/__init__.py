"""Figures of a version, aggregated from its tables, and their drift from one version to the next."""
