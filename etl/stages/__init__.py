"""Stages, one module each: inputs and outputs, completeness, and `STAGE`, which the commands run."""
