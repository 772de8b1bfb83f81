"""Completeness of a stage: the inputs of its tables, compared with today's.

Each stage records a fingerprint in the commit of its last table (etl/lake/facts.py): the hashes of the data's
configuration and of the stage's own code, and its inputs (versions of tables; a hash over the source files for
`ingest`). Where a new run would have the same fingerprint, the stage is complete, and running it again would only
repeat its result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from etl.lake.facts import Fingerprint
from etl.runs.code import code_sha256
from etl.runs.run import Run, Tables
from schemas.config import Configuration

Completion = Callable[[Tables], Mapping[str, int] | None]
"""Known counts of a complete stage, None where it has to run; computed without Spark."""


def by_the_log(question: Callable[[Tables], bool]) -> Completion:
    """Return the completion of a stage that only the tables' logs decide; no counts are known then."""
    return lambda data_set: {} if question(data_set) else None


@dataclass(frozen=True)
class Stage:
    """Step of the pipeline, which writes tables of its own."""

    name: str
    run: Callable[[Run], Mapping[str, int]]
    """Runs the stage and returns its counts."""
    completion: Completion


def fingerprint(stage: str, config: Configuration, **inputs: str | None) -> Fingerprint:
    """Return the inputs of a stage's result, were it run now."""
    return Fingerprint(configuration=config.data_sha256(stage), code=code_sha256(stage), inputs=dict(inputs))
