"""Figures of a version, aggregated from its tables, and their drift between versions."""
