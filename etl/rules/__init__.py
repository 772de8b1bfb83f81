"""Cleaning rules, one module a family; `registry` defines and finds rules. A new family is a new module."""
