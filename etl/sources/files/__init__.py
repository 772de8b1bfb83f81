"""Formats of source files, one module each, and the cutting of files into pieces."""
