"""Generated text with planted truths: the parts of `benchmarks/generate.py`."""
