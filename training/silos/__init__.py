"""Silos: parts of the training split that learn by themselves, and how what they learned is combined."""
