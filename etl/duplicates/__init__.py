"""How duplicates are found: the hash kernel, verification, connected components, similarity across splits."""
