"""Foundations of any program: errors, the command line, progress, storage, files, the page of a report."""
