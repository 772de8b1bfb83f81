"""Content of source files: which there are, their bytes decompressed and out of archives, their encoding."""
