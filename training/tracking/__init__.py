"""Metrics of a run, and its summary."""
