"""Duplicate detection: the hash kernel, verification, connected components, similarity across splits."""
