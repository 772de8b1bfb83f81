"""Regression: errors in the unit of the target, baselines, and sections of the run report."""
