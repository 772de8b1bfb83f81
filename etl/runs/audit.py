"""The audit trail of a data set: `audit.jsonl`, append-only JSON lines, each with the hash of the one before it.

Every stage that writes leaves an entry when it begins and one when it ends (or fails): who, when, by which command,
with which configuration, the versions of all tables then, and what came of it. An entry's `hash` is the SHA-256 of its
canonical JSON without that key, `previous` the hash of the entry before it (64 zeros in the first), so that no entry
can be altered, taken out or put in without breaking the chain from there on. Only the end of a chain could be cut off
unseen; that is why `verify` asks for the publication of every manifest in it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from common import storage
from common.errors import DataError
from common.storage import Storage
from etl.lake.log import open_table
from etl.runs.invocation import invocation, now
from schemas.config import Configuration, canonical_json
from schemas.manifest import Manifest
from schemas.tables import Layout

FILE = "audit.jsonl"
FIRST = "0" * 64
TABLES = {
    "bronze": ("sources", "records", "quarantine", "tombstones"),
    "silver": ("fields", "ledger", "signatures", "encoded"),
    "gold": ("shards",),
}


@contextmanager
def audited(action: str, config: Configuration) -> Iterator[dict[str, object]]:
    """Enters the beginning and the end of an action; what the body puts into the dictionary stands in the latter.

    The data set has to be locked by whoever calls this (etl/runs/lock.py).
    """
    layout = Layout.of(config)
    append(layout, config, {"action": action, "event": "begin"})
    outcome: dict[str, object] = {}
    try:
        yield outcome
    except BaseException as error:
        # Its kind alone: a message may quote what no table may hold.
        append(layout, config, {"action": action, "event": "failed", "error": type(error).__name__})
        raise
    append(layout, config, {"action": action, "event": "end", **outcome})


def append(layout: Layout, config: Configuration, facts: Mapping[str, object]) -> None:
    """Adds an entry. Raises DataError where what is there does not end with an entry.

    What a crash left of a line that was being written is taken away first; no entry was ever that.
    """
    location = layout.at(FILE)
    content = _content(location, config.storage)
    whole = content[: content.rfind(b"\n") + 1]
    number, previous = 0, FIRST
    if whole:
        last = _parsed(whole[:-1].rpartition(b"\n")[2])
        if last is None:
            raise DataError(
                f"the last line of {location} is no entry of an audit trail: see `ringlake-etl verify`"
            )
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
    line = canonical_json({**entry, "hash": hash_of(entry)}) + b"\n"
    if storage.is_local(location):
        _append_locally(location, len(whole), line)
    else:
        # Object stores know no appending; the file is written as a whole, under the lock.
        storage.write_bytes(location, whole + line, config.storage)


def _content(location: str, options: Storage) -> bytes:
    """Of the file; nothing where there is none yet."""
    return storage.read_bytes(location, options) if storage.exists(location, options) else b""


def _append_locally(location: str, end: int, line: bytes) -> None:
    os.makedirs(os.path.dirname(location), exist_ok=True)
    # Buffered: then what a full disk does not take is an error, and not a shorter line.
    with open(os.open(location, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
        file.truncate(end)
        file.seek(end)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def hash_of(entry: Mapping[str, object]) -> str:
    """SHA-256 of an entry without its own hash."""
    return hashlib.sha256(canonical_json({k: v for k, v in entry.items() if k != "hash"})).hexdigest()


def versions(layout: Layout, options: Storage) -> dict[str, int]:
    """The newest version of each table that there is, as `layer/name`."""
    found = {}
    for layer, names in TABLES.items():
        for name in names:
            table = open_table(layout.at(layer, name), options)
            if table is not None:
                found[f"{layer}/{name}"] = table.version()
    return found


def entries(content: bytes) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    """Each line's number (from 1), its entry, and what is wrong with it; None where nothing is, or where it is none.

    A last line that does not end is no entry: it is being written, or was when its writer was killed.
    """
    number, previous = 0, FIRST
    for place, line in enumerate(content.split(b"\n")[:-1], start=1):
        entry = _parsed(line)
        if entry is None:
            yield place, None, "it is no entry of an audit trail"
            return
        problem = None
        if entry["hash"] != hash_of(entry) or line != canonical_json(entry):
            problem = "its content no longer has its hash"
        elif entry["previous"] != previous:
            problem = "it does not follow the entry before it: one was altered, taken out or put in"
        elif entry["number"] != number:
            problem = f"it has the number {entry['number']} instead of {number}"
        yield place, entry, problem
        number, previous = number + 1, entry["hash"]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("hash"), str):
        return None
    return entry if isinstance(entry.get("number"), int) and isinstance(entry.get("previous"), str) else None


def last_commit(layout: Layout, options: Storage) -> dict[str, Any]:
    """The entry of the newest publication or rollback; empty where there is none."""
    found = [
        entry
        for _, entry, _ in entries(_content(layout.at(FILE), options))
        if entry is not None and entry.get("event") == "commit"
    ]
    return found[-1] if found else {}


def findings(layout: Layout, manifests: Mapping[str, Manifest], options: Storage) -> list[str]:
    """What is wrong with the audit trail of a data set: the first altered entry, and publications it does not have.

    `manifests`: some of those that lie there, by their locations; such as are older than the trail need not be in it.
    """
    location = layout.at(FILE)
    if not storage.exists(location, options):
        return [f"the audit trail {location} is missing"]
    published: set[object] = set()
    begins = ""
    for place, entry, problem in entries(storage.read_bytes(location, options)):
        if problem is not None:
            return [f"line {place:,} of the audit trail {location} was altered: {problem}"]
        assert entry is not None
        begins = begins or str(entry.get("time"))
        published.add(entry.get("manifest_root"))
    return [
        f"the audit trail {location} has no entry for the publication of {name}: its end was cut off, or it is "
        "another data set's"
        for name, manifest in sorted(manifests.items())
        if manifest.manifest_root not in published and manifest.provenance.created >= begins
    ]
