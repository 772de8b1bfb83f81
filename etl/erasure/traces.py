"""Remaining traces of a person's records: published versions that hold them, and runs that learned from them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from common import storage
from common.errors import DataError
from schemas.config import DOCUMENTS, Configuration
from schemas.manifest import Manifest, load, published
from schemas.runs import roots_of, runs_in
from schemas.tables import EXPIRED, SPLITS, Layout


@dataclass(frozen=True)
class Trace:
    """Published version that holds some of the records: how many in each split, and the runs that learned from it."""

    version: int
    manifest_root: str
    rows: dict[str, int]
    runs: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the trace for the audit trail."""
        return {"version": self.version, "rows": self.rows, "runs": list(self.runs)}

    def sentence(self) -> str:
        """Return the trace as a sentence for the user."""
        rows = ", ".join(f"{count:,} in {split}" for split, count in self.rows.items())
        learned = f"; the runs {', '.join(self.runs)} learned from it" if self.runs else ""
        return f"version {self.version} holds {rows}{learned}"


@dataclass(frozen=True)
class Traces:
    """All versions that hold some of the records, oldest first."""

    versions: list[Trace]
    ids: frozenset[str]
    """Ids of the records that any of them holds."""
    not_known: list[str]
    """A sentence for each thing that could not be inspected."""


def traces(spark: SparkSession, config: Configuration, ids: Iterable[str]) -> Traces:
    """Find the versions and runs that hold records with these ids."""
    layout, wanted = Layout.of(config), sorted(ids)
    unknown: list[str] = []
    manifests: dict[int, Manifest] = {}
    for version, location in published(layout.manifests, config.storage).items():
        try:
            manifests[version] = load(location, config.storage)
        except DataError as error:
            unknown.append(f"{error}: whether version {version} holds them is not known")
    gone = published(storage.join(layout.manifests, EXPIRED), config.storage)
    unknown += [
        f"version {version} was vacuumed: whether it held them is not known" for version in sorted(gone)
    ]
    learned: dict[str, list[str]] = {}
    for run in runs_in(Path(config.train.runs)):
        try:
            for root in roots_of(run):
                learned.setdefault(root, []).append(str(run))
        except DataError as error:
            unknown.append(str(error))
    counts, there = _rows_by_shard(spark, manifests, wanted, config, unknown)
    found = []
    for version, manifest in manifests.items():
        rows = {
            split: sum(counts[manifest.shard_uri(shard)] for shard in manifest.splits[split].shards)
            for split in SPLITS
        }
        if any(rows.values()):
            held = {split: count for split, count in rows.items() if count}
            runs = tuple(sorted(learned.get(manifest.manifest_root, ())))
            found.append(Trace(version, manifest.manifest_root, held, runs))
    return Traces(found, there, unknown)


def _rows_by_shard(
    spark: SparkSession,
    manifests: Mapping[int, Manifest],
    ids: Sequence[str],
    config: Configuration,
    unknown: list[str],
) -> tuple[Counter[str], frozenset[str]]:
    """Return the number of records with these ids in each shard of any version, and the ids found.

    Adds a sentence for each missing shard to `unknown`.
    """
    uris: dict[str, list[int]] = {}
    packed: set[str] = set()
    for version, manifest in manifests.items():
        for content in manifest.splits.values():
            for shard in content.shards:
                uri = manifest.shard_uri(shard)
                uris.setdefault(uri, []).append(version)
                if content.packing is not None:
                    packed.add(uri)
    there = [uri for uri in uris if storage.exists(uri, config.storage)]
    for uri in sorted(uris.keys() - set(there)):
        unknown.append(f"{uri} is missing: whether version {uris[uri][0]} held them is not known")
    if not there or not ids:
        return Counter(), frozenset()
    wanted = F.broadcast(spark.createDataFrame(pa.table({"record_id": pa.array(ids, pa.string())})))
    rows = [
        row
        for several, column in (
            ([uri for uri in there if uri not in packed], F.col("record_id")),
            ([uri for uri in there if uri in packed], F.explode(f"{DOCUMENTS}.record_id")),
        )
        if several
        for row in spark.read.parquet(*several)
        .select(column.alias("record_id"), F.col("_metadata.file_name").alias("file"))
        .join(wanted, "record_id", "left_semi")
        .distinct()
        .collect()
    ]
    # A shard is named by its hash: equal names are equal files, also below the folder of another split.
    by_name = Counter(row["file"] for row in rows)
    counts = Counter({uri: by_name[uri.rsplit("/", 1)[-1]] for uri in uris})
    return counts, frozenset(row["record_id"] for row in rows)
