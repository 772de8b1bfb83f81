"""Comparison of models on the same rows: paired tests, intervals, independent units."""
