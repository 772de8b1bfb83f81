"""What proves: record keys, Merkle trees, hashes of files, hash chains."""
