"""The sections of the run report."""
