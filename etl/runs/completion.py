"""Whether a stage has anything to do: what its tables were made from, beside what they would be made from now.

Each stage notes in the commit of its last table, as `made_from`, all that its result follows from: the hashes of the
data's configuration and of the stage's own code, its input (versions of tables; of `ingest` a fingerprint of the source
files) and what else it depends on. Where the newest commit says the same as a new run would, the stage is complete, and
running it again would only repeat its result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.sql import SparkSession

from etl.runs.code import code_sha256
from schemas.config import Configuration

Completion = Callable[[SparkSession, Configuration], Mapping[str, int] | None]
"""The counts that are known of a complete stage, None where it has to run."""


def by_the_log(question: Callable[[Configuration], bool]) -> Completion:
    """The completion of a stage of which the tables' logs alone tell; no counts are known then."""
    return lambda _, config: {} if question(config) else None


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline, which writes tables of its own."""

    name: str
    run: Callable[[SparkSession, Configuration], Mapping[str, int]]
    """Returns counts of what it did."""
    completion: Completion


def made_from(stage: str, config: Configuration, **inputs: object) -> dict[str, object]:
    """What a stage notes in its commit: JSON values."""
    return {"data_sha256": config.data_sha256(stage), "code_sha256": code_sha256(stage), **inputs}
