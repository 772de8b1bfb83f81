"""Data-quality report: its sections, examples and page."""
