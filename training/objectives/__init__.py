"""Objectives: one module a kind; what is lost, what is measured."""
