"""Tombstones: hashes of erased records, so that no later run on the same files brings them back.

A record leaves one of its id and one of its place: its id alone would not be enough, since ids derived from a
record's columns change with the configuration, nor its place, since files are moved. The place is a `content`, which
identifies the file as it was; since nobody hashes every file before it is read, a `spot` beside it says which places
are worth hashing their file for. A `place` identifies the file by its size alone: where its hash is not known, and
for erasures older than the other two. Records in quarantine leave a `raw`.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from common.storage import Storage
from etl.lake.facts import RecordsFacts
from etl.lake.log import facts_at, noted_at, open_table
from schemas.config import Configuration, canonical_json
from schemas.manifest import Manifest
from schemas.tables import Layout

FORGOTTEN = "forgotten"
"""Reason in the quarantine of erased records; such a row has no raw bytes."""
FORGOTTEN_DETAIL = "it was erased on request: bronze/tombstones has its hash and the date"


def record_sha256(record_id: str) -> bytes:
    """Return the SHA-256 (FIPS 180-4) of an id in UTF-8."""
    return hashlib.sha256(record_id.encode()).digest()


def place_sha256(path: str, twin: int, position: int, file_bytes: int) -> bytes:
    """Return the SHA-256 of a record's place: the file's path, its number among equal paths, the position, the file's
    size.

    With the size, since in a rewritten file something else stands at the same position.
    """
    return hashlib.sha256(canonical_json([path, twin, position, file_bytes])).digest()


def content_sha256(path: str, twin: int, position: int, file_sha256: str) -> bytes:
    """Return the SHA-256 of a record's place as above, with the file's own SHA-256 in hex instead of its size."""
    return hashlib.sha256(canonical_json([path, twin, position, file_sha256])).digest()


def raw_sha256(raw: bytes) -> bytes:
    """Return the SHA-256 of the raw bytes as the quarantine holds them."""
    return hashlib.sha256(raw).digest()


@dataclass(frozen=True)
class Tombstones:
    """Hashes of each kind, 32 bytes each."""

    records: frozenset[bytes] = frozenset()
    places: frozenset[bytes] = frozenset()
    raws: frozenset[bytes] = frozenset()
    spots: frozenset[bytes] = frozenset()
    contents: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, config: Configuration) -> "Tombstones":
        """Read the tombstones of a data set."""
        table = open_table(Layout.of(config).tombstones, config.storage)
        if table is None:
            return NO_TOMBSTONES
        rows = table.to_pyarrow_dataset().to_table(columns=["kind", "sha256"])
        return cls.of_rows(rows.to_pylist())

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, str]]) -> "Tombstones":
        """Collect rows of `bronze/tombstones`."""
        by_kind: dict[str, set[bytes]] = {kind: set() for kind in NO_TOMBSTONES.by_kind()}
        for row in rows:
            by_kind[row["kind"]].add(bytes.fromhex(row["sha256"]))
        return cls._of(by_kind)

    @classmethod
    def _of(cls, by_kind: Mapping[str, Collection[bytes]]) -> "Tombstones":
        return cls(*(frozenset(by_kind[kind]) for kind in ("record", "place", "raw", "spot", "content")))

    def __bool__(self) -> bool:
        return bool(self.records or self.places or self.raws or self.spots)

    def has_record(self, record_id: str) -> bool:
        return record_sha256(record_id) in self.records

    def has_place(
        self, path: str, twin: int, position: int, file_bytes: int, file_sha256: Callable[[], str | None]
    ) -> bool:
        """Return True where something was erased there; `file_sha256` is called only where the answer depends on it.

        Where it gives None the file cannot be hashed, and any content of its size counts as the same.
        """
        place = place_sha256(path, twin, position, file_bytes)
        if place in self.places or place not in self.spots:
            return place in self.places
        found = file_sha256()
        return found is None or content_sha256(path, twin, position, found) in self.contents

    def has_raw(self, raw: bytes) -> bool:
        return bool(raw) and bool(self.raws) and raw_sha256(raw) in self.raws

    def by_kind(self) -> dict[str, frozenset[bytes]]:
        """Return the hashes by kind, as in the table."""
        return {
            "record": self.records,
            "place": self.places,
            "raw": self.raws,
            "spot": self.spots,
            "content": self.contents,
        }

    def joined(self, others: "Tombstones") -> "Tombstones":
        """Return the union of two sets of tombstones."""
        theirs = others.by_kind()
        return self._of({kind: mine | theirs[kind] for kind, mine in self.by_kind().items()})

    def without(self, others: "Tombstones") -> "Tombstones":
        """Return these tombstones without the others."""
        theirs = others.by_kind()
        return self._of({kind: mine - theirs[kind] for kind, mine in self.by_kind().items()})

    def count(self) -> int:
        return sum(map(len, self.by_kind().values()))

    def fingerprint(self) -> str | None:
        """Return the SHA-256 over all of them, None where there are none: equal where the same was erased."""
        if not self:
            return None
        document = {kind: sorted(map(bytes.hex, found)) for kind, found in self.by_kind().items()}
        # Data sets without tombstones keep the fingerprint from before there were any.
        for kind in ("spot", "content"):
            if not document[kind]:
                del document[kind]
        return hashlib.sha256(canonical_json(document)).hexdigest()


NO_TOMBSTONES = Tombstones()


def erased_before(manifest: Manifest, layout: Layout, options: Storage) -> str | None:
    """Return the fingerprint of the erasures before the ingestion behind a published version."""
    version = manifest.provenance.bronze_versions["records"]
    facts = facts_at(layout.records, version, options, RecordsFacts)
    if facts is not None:
        return facts.fingerprint.inputs.get("tombstones")
    return _noted_before(layout.records, version, options)


def _noted_before(uri: str, version: int, options: Storage) -> str | None:
    """Return what a commit notes in the words of versions 0.1.0 and earlier; None where it is not one of theirs."""
    try:
        found = json.loads(noted_at(uri, version, options) or "{}")["made_from"]["tombstones"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
