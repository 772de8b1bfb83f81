"""Classification: scores, the linear baseline, and sections of the run report."""
