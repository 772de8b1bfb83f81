"""Permanent files of a data set: tokenizers, class names, lists of sources. Each is named by its SHA-256."""

import hashlib

from common import storage
from common.storage import Storage
from schemas.manifest import Artifact
from schemas.tables import Layout


def store(content: bytes, purpose: str, layout: Layout, options: Storage) -> Artifact:
    """Write `artifacts/<sha256>` atomically, and return its entry for the manifest."""
    sha256 = hashlib.sha256(content).hexdigest()
    # Written even where a file of that name exists already: it could be damaged.
    storage.write_bytes(storage.join(layout.artifacts, sha256), content, options)
    return Artifact(purpose=purpose, bytes=len(content), sha256=sha256)
