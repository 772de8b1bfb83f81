"""Judging a trained model, beside a baseline."""
