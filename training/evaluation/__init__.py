"""Evaluation of a trained model beside a baseline."""
