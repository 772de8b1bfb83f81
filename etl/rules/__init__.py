"""Cleaning rules, one module a family; `registry` says what a rule is, and finds them. A new family is a new module."""
