"""Cases to compare: every loader with its settings, found by trying what its documentation recommends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOKEN_SETS = ("generated", "demo")
"""Data sets of texts; the others are named like their kind."""

# The row groups of a stream must be at least the 8 of the window: of 400,000 rows, 196 row groups in 8 streams are 24,
# 782 in 64 are 12; of the demo's 22,000 rows, 172 row groups of 128 in 16 streams are 10.
OURS = {
    "generated": {"variant": "shards_2048", "streams": 8, "window": 8},
    "demo": {"variant": "published", "streams": 16, "window": 8},
    "check": {"variant": "shards_128", "streams": 8, "window": 8},
    "images_28": {"variant": "shards", "streams": 8, "window": 4},
    "images_224": {"variant": "shards", "streams": 8, "window": 4},
    "table": {"variant": "shards", "streams": 8, "window": 4},
}
OURS_SMALL_GROUPS = {
    "generated": {"variant": "shards_512", "streams": 64, "window": 8},
    "demo": {"variant": "published", "streams": 64, "window": 4},
}


@dataclass(frozen=True)
class Case:
    """Line of the table. `rows`: the peer's copy holds at most so many, because reading all would take too long."""

    name: str
    loader: str
    shuffle: str
    settings: str
    peer: bool = False
    """Runs in an environment of its own."""
    options: Mapping[str, Any] = field(default_factory=dict)
    by_data_set: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: int | None = None
    data_sets: tuple[str, ...] | None = None
    """Those it runs on; None: all."""
    check_passes: int = 1
    """More than one where rows are lost by a race, and then for the product too."""

    def runs_on(self, data_set: str) -> bool:
        return self.data_sets is None or data_set in self.data_sets

    def options_for(self, data_set: str) -> dict[str, Any]:
        return {**self.options, **self.by_data_set.get(data_set, {})}


CASES = (
    Case(
        "ours",
        "ringlake",
        "rows, in windows of 8 row groups of each stream, of 4 for images and tables",
        "2 reader threads; generated: 2,048-row groups, 8 streams; demo: 128-row groups, 16 streams; images and "
        "tables: 8 streams, row groups of 26 (224 × 224), 1,024 (28 × 28) and 8,192 rows (table)",
        by_data_set=OURS,
        check_passes=20,
    ),
    Case(
        "ours_many_streams",
        "ringlake",
        "rows, in windows of row groups of each stream",
        "2 reader threads, 64 streams; generated: 512-row groups, window 8; demo: 128-row groups, window 4",
        by_data_set=OURS_SMALL_GROUPS,
        data_sets=TOKEN_SETS,
    ),
    Case(
        "memory_copy",
        "memory_copy",
        "none",
        "rows in memory, copied as they are into one batch again and again",
    ),
    Case(
        "memory_copy_fresh",
        "memory_copy",
        "none",
        "the same into a new batch each time",
        options={"fresh": True},
    ),
    Case("limit", "memory_map", "global", "a memory-mapped array, everything in memory"),
    Case("limit_in_order", "memory_map", "none", "the same, in order", options={"shuffle": False}),
    Case(
        "petastorm",
        "petastorm",
        "queue of 10,000 rows, row groups permuted",
        "make_batch_reader, 2 threads, BatchedDataLoader; lists (table: columns), zstd, 4,096-row groups",
        check_passes=20,
    ),
    Case("petastorm_in_order", "petastorm", "none", "the same without the queue", options={"shuffle": False}),
    Case(
        "mosaicml_streaming",
        "mosaicml_streaming",
        "py1e",
        "StreamingDataLoader, 2 worker processes; MDS of arrays, not compressed",
        peer=True,
        rows=100_000,
    ),
    Case(
        "huggingface",
        "huggingface",
        "buffer of 10,000 rows, files permuted",
        "streaming of uncompressed Arrow files, Arrow batches turned into tensors by hand",
        peer=True,
    ),
    Case(
        "huggingface_in_order",
        "huggingface",
        "none",
        "the same without the buffer",
        peer=True,
        options={"shuffle": False},
    ),
    Case(
        "huggingface_tensors",
        "huggingface",
        "buffer of 10,000 rows, files permuted",
        'the same with its own with_format("torch")',
        peer=True,
        options={"format": "torch"},
        data_sets=TOKEN_SETS,
    ),
    Case(
        "lancedb",
        "lancedb",
        "global, in clumps of 256 rows",
        "StreamingDataset, 2 splits, 4,096 rows a read, 2 transform threads",
        peer=True,
        options={"clump": 256, "read": 4096},
    ),
    Case(
        "lancedb_single_rows",
        "lancedb",
        "global, single rows",
        "the same with its default shuffle, 1,024 rows a read",
        peer=True,
        data_sets=TOKEN_SETS,
    ),
    Case(
        "litdata",
        "litdata",
        "chunks permuted, rows within a chunk",
        "StreamingDataLoader, 2 worker processes; TokensLoader, 8,192-row chunks",
        peer=True,
    ),
    Case(
        "webdataset",
        "webdataset",
        "buffer of 10,000 rows, files permuted",
        "WebLoader, 2 worker processes; tar files, one member of raw bytes a row",
        peer=True,
        rows=100_000,
    ),
)
PEERS = ("petastorm", "mosaicml_streaming", "huggingface", "lancedb", "litdata", "webdataset")
PACKAGES = {
    "mosaicml_streaming": "mosaicml-streaming",
    "huggingface": "datasets",
    "lancedb": "lancedb",
    "litdata": "litdata",
    "webdataset": "webdataset",
}
"""By peer: the distribution whose version is reported; stock Petastorm is the product's own."""
