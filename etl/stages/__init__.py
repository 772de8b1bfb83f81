"""Stages, one module each: inputs and outputs, completeness, and `STAGE`; `command` runs them."""
