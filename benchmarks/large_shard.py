"""Cost of writing one shard that is larger than Spark's memory: `python -m benchmarks.large_shard --gigabytes 1.5`.

Generates encoded rows of 128 random tokens in a temporary folder, publishes them as one shard with a Java heap of
`--heap`, and prints one line of JSON: the peak resident memory of the Java machine and of the largest Python worker
while the shard was written, what Spark's sort spilled, and the speed.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from common import command
from etl.lake.facts import CommitFacts, Fingerprint
from etl.lake.tables import read_table, write_table
from etl.publication import balance, shards
from etl.runs.stage_metrics import metrics_since, newest_spark_stage
from etl.spark.session import build_session
from schemas.config import Configuration
from schemas.tables import Layout, encoded_schema, spark_schema

TOKENS, ROW_BYTES, SAMPLE_SECONDS = 128, 2 * 128, 0.05


def generated(spark: SparkSession, rows: int, config: Configuration) -> DataFrame:
    """Return rows of silver/encoded with random tokens, equal for equal row numbers."""
    schema = encoded_schema(config)

    def fill(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            numbers = batch.column("id").to_numpy()
            count = len(numbers)
            random = np.random.default_rng(int(numbers[0]) if count else 0)
            tokens = random.integers(1, 8192, (count, TOKENS), dtype=np.uint16)
            offsets = pa.py_buffer((np.arange(count + 1) * ROW_BYTES).astype(np.int32).tobytes())
            arrays = [
                pa.array([f"record-{number:027d}" for number in numbers]),
                pa.array(["train"] * count),
                pa.array(random.integers(0, 9, count, dtype=np.int32)),
                pa.Array.from_buffers(pa.binary(), count, [None, offsets, pa.py_buffer(tokens.tobytes())]),
                pa.array(np.full(count, TOKENS, dtype=np.int32)),
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return spark.range(0, rows, 1, 16).mapInArrow(fill, spark_schema(schema))


class Peaks(threading.Thread):
    """Sampler of the resident memory of the Java machine and of the Python workers of this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended, self.mb = threading.Event(), {"java": 0.0, "python_worker": 0.0}

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    name = (status.parent / "cmdline").read_bytes()
                    text = status.read_text(encoding="utf-8")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has ended meanwhile
                kind = "java" if b"java" in name.split(b"\0")[0] else "python_worker"
                if b"pyspark.daemon" not in name and (kind != "java" or b"large-shard" not in name):
                    continue
                resident = [int(line.split()[1]) / 1000 for line in text.splitlines() if line[:6] == "VmRSS:"]
                self.mb[kind] = max([self.mb[kind], *resident])


def measured(folder: Path, gigabytes: float, heap: str) -> dict[str, Any]:
    """Write the shard and return the figures."""
    document = {
        "dataset": {"name": "generated", "root": str(folder)},
        "source": [{"format": "jsonl", "path": "none.jsonl"}],
        "columns": {"id": "id", "label": "label"},
        "feature": [{"name": "tokens", "column": "text", "length": TOKENS}],
        "publish": {"shards": 1},
    }
    config = Configuration.model_validate(document)
    layout, width = Layout.of(config), shards.row_bytes(config)
    rows = int(gigabytes * 1e9 / width)
    spark = build_session(
        "large-shard",
        {
            "spark.master": "local[2]",
            "spark.driver.memory": heap,
            "spark.driver.extraJavaOptions": "-Dname=large-shard",
            "spark.local.dir": str(folder / "spark"),
        },
    )
    try:
        facts = CommitFacts.by("generate", config, Fingerprint(configuration="", code="", inputs={}))
        write_table(generated(spark, rows, config), layout.encoded, encoded_schema(config), config, facts)
        ordered = balance.with_order_key(read_table(spark, layout.encoded))
        size = balance.row_group_size(config.publish, {"train": rows}, width)
        plans = balance.plan(ordered, {"train": (rows, 1)}, size)
        before, began, peaks = newest_spark_stage(spark), time.monotonic(), Peaks()
        peaks.start()
        [shard] = shards.write_shards(ordered, plans, size, config, layout.shards)
        seconds = time.monotonic() - began
        peaks.ended.set()
        peaks.join()
        shuffled = metrics_since(spark, before, "write")
    finally:
        spark.stop()
    return {
        "rows": shard.rows,
        "row_groups": len(shard.row_groups),
        "rows_per_group": size,
        "decoded_mb": round(rows * width / 1e6),
        "shard_mb": round(shard.bytes / 1e6),
        "heap": heap,
        "java_mb": round(peaks.mb["java"]),
        "python_worker_mb": round(peaks.mb["python_worker"]),
        "spilled_mb": round(shuffled.spilled_bytes / 1e6),
        "shuffled_mb": round(shuffled.written_bytes / 1e6),
        "seconds": round(seconds, 1),
        "mb_per_second": round(rows * width / 1e6 / seconds, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=1.5, metavar="GB", help="decoded, default 1.5")
    parser.add_argument("--heap", default="1g", metavar="SIZE", help="of the Java machine, default 1g")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ringlake-large-shard-") as folder:
        print(json.dumps(measured(Path(folder), arguments.gigabytes, arguments.heap)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
