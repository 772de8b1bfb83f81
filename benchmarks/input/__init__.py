"""Training input side by side: this product's reader, raw pyarrow and other libraries, on the same rows."""
