"""MinHash kernels side by side: from texts to 140 MinHash values each."""
