"""What the `main` of every stage does: flags, configuration, Spark session, the stage itself, its counts."""

import time
from collections.abc import Callable, Mapping, Sequence

from pyspark.sql import SparkSession

from etl.session import build_session
from etl.task_metrics import keep, newest_spark_stage, shuffles_since
from schemas.command import configuration_parser
from schemas.config import Configuration, load
from schemas.progress import say
from schemas.storage import hadoop_options

Stage = Callable[[SparkSession, Configuration], Mapping[str, int]]


def stage_main(name: str, description: str | None, stage: Stage, argv: Sequence[str] | None) -> int:
    """Runs one stage as a command of its own and returns its exit status."""
    arguments = configuration_parser(f"python -m etl.{name}", description).parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    spark = build_session(f"{config.dataset.name}-{name}", hadoop_options(config.storage))
    try:
        timed(name, stage, spark, config)
    finally:
        spark.stop()
    return 0


def timed(name: str, stage: Stage, spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Runs a stage, says what it does and what came of it, and returns its counts; keeps how even its shuffles were."""
    say(f"{name} …")
    began, before = time.monotonic(), newest_spark_stage(spark)
    counts = stage(spark, config)
    keep(shuffles_since(spark, before, name, counts.get("salted_keys", 0)), config)
    shown = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in counts.items())
    say(f"{name}: {shown} ({time.monotonic() - began:.1f} s)")
    return counts
