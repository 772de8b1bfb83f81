"""Anomalies: scores and thresholds, baselines, and sections of the run report."""
