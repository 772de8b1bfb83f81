"""Inputs of `ingest`: a fingerprint of the source files, and the tables written before bronze/records."""

import hashlib
import os

from common import storage
from etl.lake.facts import Fingerprint
from etl.lake.tombstones import Tombstones
from etl.runs.completion import fingerprint
from etl.runs.run import Tables
from etl.sources.files.pieces import list_pieces
from schemas.config import Configuration, canonical_json


def ingest_fingerprint(config: Configuration) -> Fingerprint:
    """Return what `ingest` would read now; without `sources` where a file system gives no time of modification."""
    return fingerprint(
        "ingest", config, sources=sources_fingerprint(config), tombstones=Tombstones.of(config).fingerprint()
    )


def sources_fingerprint(config: Configuration) -> str | None:
    """Return the SHA-256 over place, size, time of modification and readability of all source files.

    None where a file system gives no time of modification. A file altered within the resolution of its clock, to the
    same size, goes unnoticed; its hash in bronze/sources shows it.
    """
    digest = hashlib.sha256()
    files = dict.fromkeys(piece.file for piece in list_pieces(config))
    for file in files:
        if file.modified is None and file.obstacle is None:
            return None
        modified = None if file.modified is None else file.modified.isoformat()
        location = os.fsencode(file.location).hex()  # the bytes of a file name need not be UTF-8
        readable = not storage.is_local(file.location) or os.access(file.location, os.R_OK)
        facts = [file.source_index, file.path, location, file.bytes, modified, file.obstacle, readable]
        digest.update(canonical_json(facts) + b"\n")
    return digest.hexdigest()


def bronze_tables(data: Tables) -> dict[str, str]:
    """Return the identities of the tables that `ingest` writes before bronze/records."""
    others = {name: data.commit(name) for name in ("sources", "quarantine")}
    return {name: commit.identity for name, commit in others.items() if commit is not None}
