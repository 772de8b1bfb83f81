"""Foundations of any program: errors, the command line, progress, storage, files, report pages."""
