"""Sources that are files: listing, cutting into pieces, one module a format."""
