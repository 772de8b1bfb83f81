"""`runs/<run>/summary.json`, filled in by training, evaluation and reports in turn."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ConfigDict, TypeAdapter, with_config

from common import storage
from common.command import without_passwords
from schemas.manifest import Manifest
from training.checkpoints import store
from training.tracking.run_files import SUMMARY_FILE, read_json, write_json


@with_config(ConfigDict(extra="allow"))
class Trained(TypedDict):
    """Section `training`: what others read of it."""

    world_size: int
    epochs: int
    epochs_completed: int
    steps: int
    samples_seen: int
    seconds: float
    samples_per_second: float
    input_wait_share: float
    checkpoint: str
    checkpoint_sha256: str
    checkpoint_chain: str
    best_checkpoint: str
    best_checkpoint_sha256: str
    best_step: int
    best_validation: dict[str, float | None] | None
    stopped_early: bool
    batches_skipped: int
    weights_sha256: str


@with_config(ConfigDict(extra="allow"))
class EvaluatedPart(TypedDict):
    """Section `evaluation`: what others read of it."""

    checkpoint: str
    checkpoint_sha256: str


@with_config(ConfigDict(extra="allow"))
class Summary(TypedDict, total=False):
    """Content of summary.json: what others read of it."""

    training: Trained
    evaluation: EvaluatedPart


REMEDY = "remove it; training with --resume writes its part again, training.evaluate and training.report write theirs"


def read(run: Path) -> dict[str, Any]:
    """Read the summary of a run; {} if there is none yet. Raises DataError if it is damaged."""
    return read_json(run / SUMMARY_FILE, TypeAdapter(Summary), REMEDY) or {}


def update(run: Path, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Replace whole sections (`training=…`), keep the others, and write the file atomically; return all of it.

    Raises DataError if the file is damaged or cannot be written.
    """
    with _alone(run):
        content = read_json(run / SUMMARY_FILE, TypeAdapter(dict[str, dict[str, Any]]), REMEDY) or {}
        content.update({name: dict(section) for name, section in sections.items()})
        write_json(run / SUMMARY_FILE, content)
    return content


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Keep an evaluation and a training from updating the file at once, where the file system knows locks."""
    with ExitStack() as held:
        with suppress(OSError):
            folder = os.open(run, os.O_RDONLY)
            held.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield


def outdated(run: Path, evaluation: Mapping[str, Any]) -> str | None:
    """Say that an evaluation is of another checkpoint than the one that an evaluation takes now; None if it is not."""
    own = store.best_on_disk(run) or store.last_on_disk(run)
    if own is None or own.sha256 == evaluation["checkpoint_sha256"]:
        return None
    which = "best" if own.judged_by else "last"
    return (
        f"of {evaluation['checkpoint']}, not of the run's {which}, {own.file}, which training.evaluate judges"
    )


def dataset_section(manifest: Manifest, location: str) -> dict[str, Any]:
    """Return the section `dataset`: facts of the manifest, and its location."""
    counts = manifest.content.counts
    names = ("records_in", "quarantined", "exact_duplicates", "near_duplicates", "filtered", "published")
    return {
        **{name: counts[name] for name in names},
        "splits": {name: manifest.splits[name].rows for name in ("train", "validation", "test")},
        "manifest": without_passwords(storage.absolute(location)),
        "manifest_root": manifest.manifest_root,
        "delta_version": manifest.delta_version,
        "seconds": manifest.provenance.seconds,
    }
