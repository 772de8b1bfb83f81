"""Audit trail of a data set: `audit.jsonl`, append-only JSON lines, each with the hash of its predecessor.

Every stage that writes adds an entry when it begins and one when it ends (or fails): who, when, by which command,
with which configuration, the versions of all tables then, and the result. An entry's `hash` is the SHA-256 of its
canonical JSON without that key, `previous` the hash of the preceding entry (64 zeros in the first), so that altering,
removing or inserting an entry breaks the chain from there on. Only a cut at the end would go unnoticed; hence
`verify` expects the publication of every manifest in it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from common import json_lines, storage
from common.errors import DataError
from common.invocation import invocation, now
from common.storage import Storage
from etl.lake.log import open_table
from provenance import chain
from schemas.config import Configuration, canonical_json
from schemas.manifest import Manifest
from schemas.tables import Layout

FILE = "audit.jsonl"
FIRST = "0" * 64
TABLES = {
    "bronze": ("sources", "records", "quarantine", "tombstones"),
    "silver": ("fields", "signatures", "clusters", "ledger", "encoded"),
    "gold": ("shards",),
}


@contextmanager
def audited(action: str, config: Configuration) -> Iterator[dict[str, object]]:
    """Log the beginning and the end of an action; the end has the entries that the body adds to the dictionary.

    The caller has to hold the lock of the data set (etl/runs/lock.py).
    """
    layout = Layout.of(config)
    append(layout, config, {"action": action, "event": "begin"})
    outcome: dict[str, object] = {}
    try:
        yield outcome
    except BaseException as error:
        # Its kind alone: a message may quote personal data that no table may hold.
        append(layout, config, {"action": action, "event": "failed", "error": type(error).__name__})
        raise
    append(layout, config, {"action": action, "event": "end", **outcome})


def append(layout: Layout, config: Configuration, facts: Mapping[str, object]) -> None:
    """Append an entry. Raises DataError where the file does not end with an entry.

    A half-written line that a crash left behind is removed first; it never was an entry.
    """
    location = layout.at(FILE)
    number, previous = 0, FIRST
    for line in json_lines.lines(location, config.storage)[-1:]:
        try:
            last = _parsed(line)
        except ValueError as error:
            raise DataError(
                f"the last line of {location} is no entry of an audit trail: see `ringlake-etl verify`"
            ) from error
        number, previous = last["number"] + 1, last["hash"]
    entry: dict[str, object] = {
        "number": number,
        "previous": previous,
        "time": now(),
        **invocation(),
        "configuration_sha256": config.sha256(),
        "versions": versions(layout, config.storage),
        **facts,
    }
    line = canonical_json({**entry, "hash": hash_of(entry)})
    json_lines.append(location, line, config.storage, mode=0o644)


def hash_of(entry: Mapping[str, object]) -> str:
    """Return the SHA-256 of an entry without its own hash."""
    return hashlib.sha256(canonical_json({k: v for k, v in entry.items() if k != "hash"})).hexdigest()


def versions(layout: Layout, options: Storage) -> dict[str, int]:
    """Return the newest version of each existing table, by `layer/name`."""
    found = {}
    for layer, names in TABLES.items():
        for name in names:
            table = open_table(layout.at(layer, name), options)
            if table is not None:
                found[f"{layer}/{name}"] = table.version()
    return found


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the entry on a line. Raises ValueError where there is none."""
    entry = json.loads(line)
    kinds = {"number": int, "previous": str, "hash": str}
    if not isinstance(entry, dict) or not all(isinstance(entry.get(k), kind) for k, kind in kinds.items()):
        raise ValueError("it is no entry of an audit trail")
    return entry


def _exact(line: bytes) -> dict[str, Any]:
    """Return the entry on a line written exactly as `append` writes it. Raises ValueError otherwise."""
    entry = _parsed(line)
    if canonical_json(entry) != line:
        raise ValueError("it was altered: it is not in canonical form")
    return entry


def _link(entry: Mapping[str, Any]) -> chain.ChainLink:
    return chain.ChainLink(entry["number"], entry["previous"], entry["hash"], hash_of(entry))


def last_commit(layout: Layout, options: Storage) -> dict[str, Any]:
    """Return the entry of the newest publication or rollback; empty where there is none."""
    entries = json_lines.readable(layout.at(FILE), _parsed, options)
    return next((entry for entry in reversed(entries) if entry.get("event") == "commit"), {})


def findings(layout: Layout, manifests: Mapping[str, Manifest], options: Storage) -> list[str]:
    """Return the faults of an audit trail: the first altered entry, and the publications that it lacks.

    `manifests` locates some of the existing manifests; those older than the trail need not be in it.
    """
    location = layout.at(FILE)
    if not storage.exists(location, options):
        return [f"the audit trail {location} is missing"]
    published: set[object] = set()
    begins = ""
    try:
        for entry in chain.verified(json_lines.read(location, _exact, options), _link, location, FIRST):
            begins = begins or str(entry.get("time"))
            published.add(entry.get("manifest_root"))
    except DataError as error:
        return [f"the audit trail is damaged: {error}"]
    return [
        f"the audit trail {location} has no entry for the publication of {name}: its end was cut off, or it is "
        "another data set's"
        for name, manifest in sorted(manifests.items())
        if manifest.manifest_root not in published and manifest.provenance.created >= begins
    ]
