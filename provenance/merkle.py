"""Merkle tree hashes as in RFC 6962, section 2.1 (Certificate Transparency), with SHA-256."""

import hashlib
from collections.abc import Sequence


def leaf_hash(content: bytes) -> bytes:
    """Return the SHA-256 of 0x00 and the content; the prefix keeps a leaf from passing for a node."""
    return hashlib.sha256(b"\x00" + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the 32-byte tree hash over the contents of the leaves, in their order; of none, the SHA-256 of nothing.

    RFC 6962 splits n leaves at the largest power of two below n. Pairing neighbours level by level, an odd last
    node going up unchanged, gives the same tree without recursion.
    """
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        paired = [
            hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)
        ]
        level = paired + level[len(paired) * 2 :]
    return level[0]
