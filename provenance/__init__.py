"""Proofs: record keys, Merkle trees, file hashes, hash chains."""
