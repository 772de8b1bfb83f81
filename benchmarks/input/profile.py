"""Processor time of a row of images or numbers by part of the product's reader, beside a memory copy of the same rows:
`python -m benchmarks.input.profile images_224` prints a Markdown table. Processor time hardly depends on other load.
"""

import argparse
import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from benchmarks.input import generate, measure
from benchmarks.input.cases import OURS
from benchmarks.input.generate import DataSet
from benchmarks.input.kinds import KINDS
from benchmarks.input.loaders import Job, memory_copy, ringlake
from provenance.checksums import row_group_crc32
from schemas import manifest as contract
from training.input import batch_loader, petastorm_reader
from training.input.columns import is_wide, row_bytes
from training.input.wide_rows import read_rows, stored_at
from training.input.windows import WindowPool

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("reading and decompressing row groups", pq.ParquetFile, "read_row_group"),
    ("their CRC-32, which reads wide rows on the way", petastorm_reader, "row_group_crc32"),
    ("views of their columns", petastorm_reader, "to_array"),
    ("places in windows", WindowPool, "_advance"),
    ("places in blocks", WindowPool, "_gather"),
    ("joining batches of several blocks", batch_loader, "joined"),
)


def timed(function: Callable[..., Any], part: str, seconds: Counter[str]) -> Callable[..., Any]:
    """Return a function that adds the processor time of its thread to `seconds`, in nanoseconds."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        began = time.thread_time_ns()
        try:
            return function(*arguments, **named)
        finally:
            seconds[part] += time.thread_time_ns() - began

    return wrapped


def alone(folder: Path, variant: str) -> float | None:
    """Return the microseconds in which one thread reads a wide row from the page cache and computes its CRC-32.

    None for rows that are not stored as they are.
    """
    manifest = contract.load(DataSet.load(folder).manifests[variant])
    split, wide = manifest.splits["train"], [one for one in manifest.content.columns if is_wide(one)]
    if not wide:
        return None
    # As many rows as the reader has in the batches to come, in memory that exists already.
    places = np.ones((2048, row_bytes(wide[:1])), dtype=np.uint8)
    began, at = time.thread_time_ns(), 0
    for shard in split.shards:
        path = manifest.shard_uri(shard)
        metadata = pq.read_metadata(path)
        for number, rows in enumerate(shard.row_groups):
            offset = stored_at(metadata, number, wide[0])
            assert offset is not None
            some = [places[(at + row) % len(places)] for row in range(rows)]
            row_group_crc32(read_rows(path, offset, some))
            at += rows
    return (time.thread_time_ns() - began) / split.rows / 1000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--data", type=Path, default=Path("data/bench-input/profile"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    folder = arguments.data / arguments.kind
    generate.generate(folder, arguments.rows, kind=KINDS[arguments.kind])
    spent: Counter[str] = Counter()

    def microseconds(loader: Any, **options: Any) -> float:
        measure.read(loader, Job(folder, options=options), measure.WARM_UP_SECONDS)
        spent.clear()
        found = measure.read(loader, Job(folder, arguments.passes, options=options), 120)
        return float(found["cpu_seconds"] / found["rows"] * 1e6)

    copy = microseconds(memory_copy)
    lines = {"memory copy into one batch": copy, "into new batches": microseconds(memory_copy, fresh=True)}
    for _ in range(3):  # the last one counts
        least = alone(folder, str(OURS[arguments.kind]["variant"]))
    if least is not None:
        lines["reading from the page cache and CRC-32 alone"] = least
    with ExitStack() as patches:
        for part, owner, name in PARTS:
            replacement = timed(getattr(owner, name), part, spent)
            patches.enter_context(mock.patch.object(owner, name, replacement))
        lines["ours"] = ours = microseconds(ringlake, **OURS[arguments.kind])
    parts = {part: spent[part] / (arguments.rows * arguments.passes) / 1000 for part, _, _ in PARTS}
    lines |= {f"of it {part}": value for part, value in parts.items()}
    lines["of it the rest: opening, threads, batches"] = ours - sum(parts.values())
    print("| what | µs a row | of a memory copy |\n|---|--:|--:|")
    for name, value in lines.items():
        print(f"| {name} | {value:.1f} | {value / copy:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
