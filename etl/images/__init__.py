"""Images: decoding into plain pixels, and what makes two of them the same picture."""
