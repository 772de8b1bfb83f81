"""This product as a measured process: `python -m benchmarks.etl.ours near_duplicates --files FOLDER --work FOLDER`.

`near_duplicates`: from the JSON lines to the clusters. The product's reader and its duplicate finder, one after the
other in one Spark job as the stages would run them, but without the tables of texts between them (bronze and silver)
that the pipeline keeps for its users. `pipeline`: `etl.pipeline` as it is. With `--warm-up FOLDER` the same is done
once with a small input before, in the same Java machine.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from common import command
from common.errors import CheckError
from common.storage import hadoop_options
from etl import pipeline
from etl.runs.completion import fingerprint
from etl.runs.run import Run
from etl.sources import outcomes
from etl.sources.files.pieces import group, list_pieces
from etl.spark.session import build_session
from etl.stages import deduplicate
from schemas.config import Configuration, load
from schemas.tables import Layout


def near_duplicates(spark: SparkSession, config: Configuration) -> None:
    """Writes silver/signatures and silver/clusters for the records of the sources, as the stage `deduplicate` does."""
    tasks = group(list_pieces(config), spark.sparkContext.defaultParallelism)
    records = outcomes.accepted(outcomes.read_outcomes(spark, config, tasks), None, config)
    fields = records.withColumn("filtered_by", F.lit(None).cast("string"))
    deduplicate.deduplicate_fields(Run(spark, config), fields, fingerprint("deduplicate", config))


def overrides(files: Path, root: Path) -> list[str]:
    """Of the configuration of a generated data set, which may have been moved."""
    return [f"dataset.root={root}", f"source.0.path={files.resolve()}/part-*.jsonl"]


def run_near_duplicates(files: Path, root: Path) -> Configuration:
    """In the session that is running, which is left running."""
    config = load(files / "ringlake.toml", overrides(files, root))
    near_duplicates(build_session("near-duplicates", hadoop_options(config.storage)), config)
    return config


def run_pipeline(files: Path, root: Path) -> Configuration:
    """Every stage, in a session of its own."""
    given = [part for override in overrides(files, root) for part in ("--set", override)]
    status = pipeline.main(["--config", str(files / "ringlake.toml"), *given])
    if status != 0:
        raise CheckError(f"the pipeline ended with status {status}")
    return load(files / "ringlake.toml", overrides(files, root))


RUNS = {"near_duplicates": run_near_duplicates, "pipeline": run_pipeline}


def clusters_of(config: Configuration) -> tuple[pa.Array, pa.Array]:
    """The numbers of records that have a cluster, and of the survivors of their clusters; int64."""
    rows = DeltaTable(Layout.of(config).clusters).to_pyarrow_table(columns=["record_id", "cluster_id"])
    clustered = rows.filter(pc.is_valid(rows["cluster_id"]))
    return clustered["record_id"].cast(pa.int64()), clustered["cluster_id"].cast(pa.int64())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=RUNS)
    parser.add_argument("--files", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--warm-up", type=Path, metavar="FOLDER", help="a small data set")
    arguments = parser.parse_args(argv)
    runs = RUNS[arguments.what]
    for name in ("warm-up", "warehouse"):
        shutil.rmtree(arguments.work / name, ignore_errors=True)
    if arguments.warm_up is not None:
        runs(arguments.warm_up, arguments.work / "warm-up")
    print(json.dumps({"event": "begin"}), flush=True)
    config = runs(arguments.files, arguments.work / "warehouse")
    print(json.dumps({"event": "end"}), flush=True)
    session = SparkSession.getActiveSession()
    if session is not None:
        session.stop()  # completes the event log
    records, clusters = clusters_of(config)
    np.savez(arguments.work / "clusters.npz", record=records.to_numpy(), cluster=clusters.to_numpy())
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
