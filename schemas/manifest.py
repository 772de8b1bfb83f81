"""Manifest: one JSON document a published version, and the only contract between data jobs and training.

`content` determines what training sees and is sealed by `manifest_root`; `provenance` (times, places, versions)
stands beside it under a hash of its own.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from common import storage
from common.errors import DataError, UsageError
from common.storage import Storage
from provenance import merkle
from schemas.config import canonical_json
from schemas.kept_tokens import KeptTokens
from schemas.split_content import ManifestPart, Packing, Shard, SplitContent
from schemas.tables import Layout

__all__ = ["ManifestPart", "Packing", "Shard", "SplitContent"]
FORMAT_VERSION = 5
READABLE = (4, 5)  # format 4 names places by absolute paths
FIXED = "fixed_size_binary"  # storage type of columns whose rows all have the same number of bytes
WIDE_ROW = 16 << 10
"""Bytes of a row from which a feature is stored as it is, uncompressed, so that readers need no copy of their own."""


class Column(ManifestPart):
    """Column of the shards."""

    LATER = frozenset({"separator"})
    name: str
    role: Literal["id", "key", "feature", "label", "documents"]
    dtype: str
    """Element type after decoding: `string`, `bytes`, or numpy's name."""
    shape: list[int]
    """Shape of one row, e.g. [128]; [] for a scalar."""
    storage: str
    """Arrow type in the file. `fixed_size_binary` columns hold `shape` elements of `dtype`, little-endian."""
    artifacts: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the column's artifacts, listed in `artifacts`, by purpose (`tokenizer`, `classes`)."""
    vocabulary: int | None = None
    """Number of token ids; 0 is the padding."""
    separator: int | None = None
    """Token id that follows each record in packed rows."""


class Artifact(ManifestPart):
    """File in `<dataset>/artifacts/`, named by its hash."""

    purpose: str
    bytes: int
    sha256: str


class SourceEntry(ManifestPart):
    source_index: int
    path: str
    bytes: int
    sha256: str | None
    """None for an unreadable file."""


class Sources(ManifestPart):
    """Raw files: up to `INLINE_SOURCES` are listed here, more in the artifact with the hash `list_sha256`."""

    files: int
    bytes: int
    root: str
    """Merkle root over the canonical JSON of the files, sorted by source and path."""
    inline: list[SourceEntry] | None
    list_sha256: str | None


INLINE_SOURCES = 1000


class Content(ManifestPart):
    """Everything that determines what training sees."""

    format_version: int = FORMAT_VERSION
    dataset: str
    configuration: dict[str, Any]
    """Data sections of the configuration, without paths and storage."""
    columns: list[Column]
    schema_fingerprint: str
    """SHA-256 of the Arrow schema of the shards."""
    counts: dict[str, int]
    """records_in, quarantined, filtered, exact_duplicates, near_duplicates, published."""
    sources: Sources
    artifacts: list[Artifact]
    splits: dict[str, SplitContent]

    @model_validator(mode="after")
    def _only_training_is_balanced(self) -> Self:
        for name, split in self.splits.items():
            if name != "train" and split.balance.policy != "none":
                raise ValueError(f"the split {name} judges the model and cannot be balanced")
        return self

    @model_validator(mode="after")
    def _packed_rows_are_full(self) -> Self:
        feature = next((column for column in self.columns if column.separator is not None), None)
        for name, split in self.splits.items():
            packing = split.packing
            if (packing is None) != (feature is None):
                raise ValueError(f"the split {name} and the columns disagree on whether rows are packed")
            if packing is not None and feature is not None:
                filled = packing.tokens + packing.records + packing.padding
                if filled != split.rows * feature.shape[0] or not 0 <= packing.padding < feature.shape[0]:
                    raise ValueError(f"the records of the split {name} do not fill its {split.rows:,} rows")
        return self


class Provenance(ManifestPart):
    """Origin of this version (time, place, code), not part of the root."""

    created: str
    host: str
    user: str
    command: str
    code_version: str
    configuration_sha256: str
    spark_version: str
    seconds: float
    bronze_versions: dict[str, int]
    silver_versions: dict[str, int]
    kept_tokens: dict[str, KeptTokens] = Field(default_factory=dict)
    """Tokens that the length of each feature of text keeps, by feature; manifests of earlier versions do not say."""


class Manifest(ManifestPart):
    """Manifest as described above.

    `delta_version` and the provenance may differ between equal data sets.
    """

    manifest_root: str
    table_uri: str
    """Absolute here; in the file, as `dataset_uri`, relative to the manifest's folder, so that a copy reads its own."""
    delta_version: int
    dataset_uri: str
    content: Content
    provenance: Provenance
    provenance_sha256: str

    @property
    def splits(self) -> dict[str, SplitContent]:
        return self.content.splits

    def column(self, role: str) -> Column:
        """Return the first column with a role. Raises UsageError where the data set has none."""
        for column in self.content.columns:
            if column.role == role:
                return column
        remedy = (
            f"set columns.{role}" if role != "documents" else 'set encode = "packed_tokens" in [[feature]]'
        )
        raise UsageError(
            f"the data set {self.content.dataset} has no {role} column; {remedy} and publish it again"
        )

    def classes(self, storage_options: Storage | None = None) -> list[str]:
        """Return the class names, indexed by the label column."""
        sha256 = self.column("label").artifacts["classes"]
        return list(json.loads(read_artifact(self, sha256, storage_options)))

    def artifact_uri(self, sha256: str) -> str:
        return storage.join(self.dataset_uri, "artifacts", sha256)

    def shard_uri(self, shard: Shard) -> str:
        return storage.join(self.table_uri, shard.path)

    @classmethod
    def seal(cls, content: Content, provenance: Provenance, delta_version: int, dataset_uri: str) -> Self:
        """Return a manifest of a data set with its two hashes computed."""
        layout = Layout(dataset_uri)
        return cls(
            manifest_root=content_root(content),
            table_uri=layout.shards,
            delta_version=delta_version,
            dataset_uri=layout.root,
            content=content,
            provenance=provenance,
            provenance_sha256=provenance_hash(provenance, delta_version, layout.references()),
        )

    def placed(self, dataset_uri: str) -> Self:
        """Return the same manifest for a copy of its data set at another place."""
        layout = Layout(dataset_uri)
        sealed = provenance_hash(self.provenance, self.delta_version, layout.references())
        places = {"dataset_uri": layout.root, "table_uri": layout.shards, "provenance_sha256": sealed}
        return self.model_copy(update=places)

    def to_json(self) -> bytes:
        document = self.model_dump(mode="json") | Layout(self.dataset_uri).references()
        # `splits` is repeated at the top level for people who read the file; loading checks it.
        document["splits"] = document["content"].pop("splits")
        return (json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def content_root(content: Content) -> str:
    """Return the hex Merkle root: one leaf for the canonical JSON of all but the shards, then one leaf a shard."""
    document = content.model_dump(mode="json")
    leaves = []
    for name in sorted(document["splits"]):
        for shard in document["splits"][name].pop("shards"):
            # The split and the row groups determine what is read from the file as much as its bytes do.
            leaves.append(canonical_json({"split": name, **shard}))
    return merkle.root([canonical_json(document), *leaves]).hex()


def provenance_hash(provenance: Provenance, delta_version: int, places: Mapping[str, str]) -> str:
    """Return the SHA-256 over the canonical JSON of everything outside the root; `places` as they stand in the file."""
    # A key that a manifest does not have is not part of its hash either, so that earlier ones stay valid.
    stated = provenance.model_dump(mode="json", exclude_defaults=True)
    whole = {"provenance": stated, "delta_version": delta_version, **places}
    return hashlib.sha256(canonical_json(whole)).hexdigest()


def parse(content: bytes, location: str, storage_options: Storage | None = None) -> Manifest:
    """Parse the manifest that lies at a location and check its two hashes. Raises DataError naming the manifest."""
    try:
        document = json.loads(content)
        version = document["content"]["format_version"]
        if version not in READABLE:
            raise DataError(
                f"{location} has the format {version}, this version of ringlake reads the formats "
                f"{' and '.join(map(str, READABLE))}: publish the data set again"
            )
        document["content"]["splits"] = document.pop("splits")
        manifest = Manifest.model_validate(document)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        wrong = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        first = (wrong.splitlines() or [""])[0]
        raise DataError(
            f"{location} is not a manifest of this product ({first}); publish the data set again"
        ) from error
    if content_root(manifest.content) != manifest.manifest_root:
        raise DataError(
            f"{location} was altered: its content no longer has the root {manifest.manifest_root}"
        )
    places = {"table_uri": manifest.table_uri, "dataset_uri": manifest.dataset_uri}
    if provenance_hash(manifest.provenance, manifest.delta_version, places) != manifest.provenance_sha256:
        raise DataError(
            f"{location} was altered: its provenance no longer has the hash {manifest.provenance_sha256}"
        )
    return manifest.placed(Layout.of_manifest(location, manifest.dataset_uri, storage_options).root)


def load(location: str, storage_options: Storage | None = None) -> Manifest:
    """Load and check a manifest file. Raises DataError when it is missing, damaged or altered."""
    return parse(storage.read_bytes(location, storage_options), location, storage_options)


def load_with_shards(location: str, storage_options: Storage | None, root: str | None) -> Manifest:
    """Load a manifest whose shards are to be read, below `root` if given (a `dataset.root`).

    Raises DataError as `load` does, and when there is no table of shards.
    """
    manifest = load(location, storage_options)
    if root is not None:
        manifest = manifest.placed(storage.absolute(storage.join(root, manifest.content.dataset)))
    if not storage.exists(manifest.table_uri, storage_options):
        raise DataError(
            f"the shards of {location} are not in {manifest.table_uri}: say with --root where the data set "
            f"{manifest.content.dataset} lies now (the folder that holds {manifest.content.dataset}/)"
        )
    return manifest


def name_of(delta_version: int, manifest_root: str) -> str:
    """Return the file name of a manifest, which sorts by version and shows the root."""
    return f"{delta_version:08d}-{manifest_root[:16]}.json"


def newest(manifests: str, storage_options: Storage | None = None) -> str:
    """Return the location of the newest manifest in a `manifests/` folder. Raises UsageError when there is none."""
    found = published(manifests, storage_options)
    if not found:
        raise UsageError(
            f"there is no manifest in {manifests}; publish the data set first (python -m etl.pipeline)"
        )
    return found[max(found)]


def published(manifests: str, storage_options: Storage | None = None) -> dict[int, str]:
    """Return the locations of all manifests in a `manifests/` folder by Delta version, oldest first."""
    file_system, path = storage.filesystem(manifests, storage_options)
    if not file_system.isdir(path):
        return {}
    names = sorted(file.rsplit("/", 1)[-1] for file in file_system.ls(path, detail=False))
    return {
        int(name[:8]): storage.join(manifests, name)
        for name in names
        if name.endswith(".json") and name[:8].isdigit()
    }


def resolve(given: str, manifests: str, storage_options: Storage | None = None) -> str:
    """Resolve `--manifest`: `latest` is the data set's newest, a number is a version, anything else a path or URI."""
    if given == "latest":
        return newest(manifests, storage_options)
    if not given.isdecimal():
        return given
    found = published(manifests, storage_options)
    if int(given) not in found:
        there = ", ".join(map(str, found)) or "none"
        raise UsageError(
            f"there is no manifest of version {given} in {manifests}; there are those of {there}"
        )
    return found[int(given)]


def read_artifact(manifest: Manifest, sha256: str, storage_options: Storage | None = None) -> bytes:
    """Return the content of an artifact after checking its hash.

    Raises DataError naming it when it is missing or damaged.
    """
    location = manifest.artifact_uri(sha256)
    content = storage.read_bytes(location, storage_options)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"the artifact {location} is damaged: its SHA-256 is no longer its name; publish again"
        )
    return content
