"""A stage as a run of its own, and as part of the pipeline: Spark session, the stage itself, its counts."""

import time
from collections.abc import Callable, Mapping

from pyspark.sql import SparkSession

from common.progress import log
from common.storage import hadoop_options
from etl.runs.audit import audited
from etl.runs.completion import Stage
from etl.runs.environment_errors import environment_errors_explained
from etl.runs.lock import locked
from etl.runs.run import Run
from etl.runs.stage_metrics import measured
from etl.sources.files.pieces import source_bytes
from etl.spark.session import build_session, check_startable
from schemas.config import Configuration


def run_stage(
    stage: Stage,
    config: Configuration,
    again: bool,
    check: Callable[[Mapping[str, int], Configuration], None] | None = None,
) -> int:
    """Run one stage in a session of its own and return the exit status; see `timed`.

    `check` gets the counts, also those of a stage that was complete, and raises where nothing may continue from it.
    """
    check_startable(config.dataset.root)
    with environment_errors_explained(config), locked(config):
        spark = session_for(stage.name, config)
        try:
            counts = timed(stage, Run(spark, config), again)
        finally:
            spark.stop()
    if check is not None:
        check(counts, config)
    return 0


def session_for(name: str, config: Configuration) -> SparkSession:
    """Return the Spark session of a stage or the pipeline, set up for the size of the sources."""
    options = hadoop_options(config.storage)
    return build_session(f"{config.dataset.name}-{name}", options, lambda: source_bytes(config))


def timed(stage: Stage, run: Run, again: bool = False) -> Mapping[str, int]:
    """Run a stage, log its progress and its result, and return its counts; keep its shuffle statistics.

    A complete stage is skipped, unless `again`; then the known counts are returned.
    """
    name = stage.name
    known = None if again else stage.completion(run)
    if known is not None:
        log(f"{name}: complete, with the same input and configuration")
        return known
    log(f"{name} …")
    began = time.monotonic()
    with measured(name, run.spark, run.config) as own:
        if again:  # everything, and not only what is new
            run = run.again()
        if name == "publish":  # it logs what it publishes in the audit trail itself
            counts = stage.run(run)
        else:
            with audited(name, run.config) as outcome:
                counts = stage.run(run)
                outcome["counts"] = dict(counts)
        own.salted_keys = counts.get("salted_keys", 0)
    log(f"{name}: {shown(counts)} ({time.monotonic() - began:.1f} s)")
    return counts


def shown(counts: Mapping[str, int]) -> str:
    """Return the counts of a stage in words, the tokens cut off with their share."""
    words = {key: f"{key.replace('_', ' ')} {value:,}" for key, value in counts.items()}
    if counts.get("tokens_cut"):
        words["tokens_cut"] += f" ({100 * counts['tokens_cut'] / counts['tokens']:.1f}%)"
    return ", ".join(words.values())
