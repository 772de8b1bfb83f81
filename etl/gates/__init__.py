"""Limits and expectations that a version has to meet before it is published."""
