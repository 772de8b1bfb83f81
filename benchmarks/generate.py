"""Realistic text with planted truths: `python -m benchmarks.generate 100MB` (or 1GB, 10GB, any number of kB, MB, GB).

Writes to the output folder, by default `data/bench-etl/<size>`:

- `part-*.jsonl`: records with id, label, source, time, text. The lengths are log-normal, words and classes follow Zipf;
  some records are copies or near-copies of others, share a boilerplate header with unlike ones, hold personal data, or
  are malformed.
- `truth/records.parquet`: a row for each line of those files: `record` (the number that the id holds), `file`, `line`,
  `kind`, `family`, `operation`, `label`, `personal` (what kind of personal data, if any), `malformed` (why, if it is).
- `truth/pairs.parquet`: every two members of a planted family, each member of the mega-cluster with the cluster's base,
  and the exact Jaccard similarity of their shingles. No other two records come near to 0.8.
- `truth/summary.json`: what was asked for and how many of everything there are.
- `ringlake.toml`: a configuration for these files.

The same size, seed and share of malformed records give the same bytes. Memory does not depend on the size.
"""

import argparse
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.corpus import truth
from benchmarks.corpus.compose import lines
from benchmarks.corpus.pieces import CLASSES, MALFORMED
from benchmarks.corpus.plan import KINDS, OPERATIONS, PERSONAL, Plan
from common import command
from common.errors import UsageError
from common.progress import log

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
RECORD_BYTES = 823
"""Average size of a line."""
RECORDS_AT_ONCE = 2048
LEAST_FILES, FILE_BYTES = 4, 64_000_000
MALFORMED_SHARE = 0.005
SIMILARITY = 0.8

RECORDS = pa.schema(
    [
        ("record", pa.int64()),
        ("file", pa.int32()),
        ("line", pa.int32()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("family", pa.int32()),
        ("operation", pa.dictionary(pa.int8(), pa.string())),
        ("label", pa.dictionary(pa.int8(), pa.string())),
        ("personal", pa.dictionary(pa.int8(), pa.string())),
        ("malformed", pa.dictionary(pa.int8(), pa.string())),
    ]
)

CONFIGURATION = """\
# Generated text: which of {classes} classes is this document of?
[dataset]
name = "generated"
root = {root}

[[source]]
format = "jsonl"
path = {path}

[columns]
id = "id"
label = "label"
time = "time"

[[feature]]
name = "tokens"
column = "text"
encode = "tokens"
vocabulary = 8192
length = 128

[deduplicate]
column = "text"
similarity = {similarity}
shingle = {shingle}
signs_below = 0    # words alone, as the truth and the other tools compare them
survivor = "longest"

[split]
seed = 7

[publish]
target_shard_bytes = 64_000_000

[model]
kind = "transformer_classifier"

[optimizer]
kind = "adamw"
"""


def bytes_of(size: str) -> int:
    """Parse `100MB` to bytes. Raises UsageError for a malformed size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]B)", size.strip().upper())
    if match is None:
        raise UsageError(f"{size!r} is no size: give a number of kB, MB or GB, 100MB say")
    return round(float(match[1]) * UNITS[match[2]])


def plan_of(size: int, seed: int, malformed_share: float = MALFORMED_SHARE) -> Plan:
    """Plan a data set of about `size` bytes. Raises UsageError for one that is too small or too large."""
    records = size // RECORD_BYTES
    if not 400 <= records <= 10**9:
        raise UsageError(f"{size:,} bytes are too few or too many: give 500kB to 800GB")
    return Plan(records, seed, malformed_share)


def records_of_a_file(plan: Plan) -> int:
    """Return the records of a file: at least LEAST_FILES equal files, of about FILE_BYTES at most."""
    files = max(LEAST_FILES, -(-plan.records * RECORD_BYTES // FILE_BYTES))
    return -(-plan.records // (files * RECORDS_AT_ONCE)) * RECORDS_AT_ONCE


def blocks(plan: Plan) -> Iterator[tuple[memoryview, pa.RecordBatch]]:
    """Yield the lines of RECORDS_AT_ONCE records at a time, in order, and the rows of RECORDS that describe them."""
    of_a_file = records_of_a_file(plan)
    for first in range(0, plan.records, RECORDS_AT_ONCE):
        records = np.arange(first, min(first + RECORDS_AT_ONCE, plan.records))
        slots = plan.plan(plan.slots_of(records))
        malformed = plan.malformed(records, slots.kind)
        documents = slots.documents

        def named(values: Any, names: Sequence[str]) -> pa.Array:
            codes = pa.array(values.astype(np.int8), mask=values < 0)
            return pa.DictionaryArray.from_arrays(codes, pa.array(names))

        columns = [
            pa.array(records),
            pa.array((records // of_a_file).astype(np.int32)),
            pa.array((records % of_a_file).astype(np.int32)),
            named(slots.kind, KINDS),
            pa.array(slots.family.astype(np.int32)),
            named(documents.operation, OPERATIONS),
            named(documents.label, [f"class-{number:02}" for number in range(CLASSES)]),
            named(documents.personal, PERSONAL),
            named(malformed, MALFORMED),
        ]
        yield lines(records, documents, malformed), pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def generate(
    folder: Path, size: int, seed: int = 0, malformed_share: float = MALFORMED_SHARE
) -> dict[str, Any]:
    """Write a data set into `folder`, which it empties first, and return the content of `truth/summary.json`."""
    plan = plan_of(size, seed, malformed_share)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "truth").mkdir(parents=True)
    counts: Counter[str] = Counter()
    written = 0
    with pq.ParquetWriter(folder / "truth" / "records.parquet", RECORDS, compression="zstd") as rows:
        file, number = None, -1
        try:
            for content, batch in blocks(plan):
                if batch["file"][0].as_py() != number:
                    if file is not None:
                        file.close()
                    number = batch["file"][0].as_py()
                    file = (folder / f"part-{number:05}.jsonl").open("wb")
                assert file is not None
                written += file.write(content)
                rows.write_batch(batch)
                for column in ("kind", "operation", "label", "personal", "malformed"):
                    for each in pc.value_counts(batch[column]).to_pylist():
                        counts[f"{column}.{each['values']}"] += each["counts"]
        finally:
            if file is not None:
                file.close()
    with pq.ParquetWriter(folder / "truth" / "pairs.parquet", truth.PAIRS, compression="zstd") as writer:
        for batch in truth.pairs(plan):
            writer.write_batch(batch)
            similar = batch.filter(pc.greater_equal(batch["jaccard"], SIMILARITY))
            counts["pairs"] += len(batch)
            for each in pc.value_counts(similar["kind"]).to_pylist():
                counts[f"similar_pairs.{each['values']}"] += each["counts"]
    summary = {
        "size": size,
        "seed": seed,
        "malformed_share": malformed_share,
        "bytes": written,
        "files": number + 1,
        "records": plan.records,
        "families": plan.families,
        "mega_cluster": plan.mega,
        "similarity": SIMILARITY,
        "counts": dict(sorted(counts.items())),
    }
    (folder / "truth" / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    write_configuration(folder)
    return summary


def write_configuration(folder: Path) -> Path:
    """Write `ringlake.toml`, with the data set in `warehouse` of the same folder."""
    file = folder / "ringlake.toml"
    whole = folder.resolve()
    text = CONFIGURATION.format(
        classes=CLASSES,
        root=json.dumps(str(whole / "warehouse")),
        path=json.dumps(str(whole / "part-*.jsonl")),
        similarity=SIMILARITY,
        shingle=truth.SHINGLE,
    )
    file.write_text(text, encoding="utf-8")
    return file


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m benchmarks.generate SIZE`; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("size", metavar="SIZE", help="100MB, 1GB, ...")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="by default data/bench-etl/SIZE")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--malformed", type=float, default=MALFORMED_SHARE, metavar="SHARE", help="of the records"
    )
    arguments = parser.parse_args(argv)
    size = bytes_of(arguments.size)
    folder = arguments.output or Path("data/bench-etl") / arguments.size.upper()
    began = time.monotonic()
    summary = generate(folder, size, arguments.seed, arguments.malformed)
    seconds = time.monotonic() - began
    log(
        f"{summary['records']:,} records, {summary['bytes'] / 1e6:,.0f} MB in {summary['files']} files, "
        f"{summary['families']:,} planted families: {folder} "
        f"({seconds:.1f} s, {summary['bytes'] / 1e6 / seconds:.0f} MB/s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
