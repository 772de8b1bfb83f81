"""`runs/<run>/summary.json`, which training, evaluation and reports fill in one after another."""

import json
from pathlib import Path
from typing import Any

from common import storage
from common.errors import DataError
from schemas.manifest import Manifest
from training.checkpoints.store import write_atomically

NAME = "summary.json"


def read(run: Path) -> dict[str, Any]:
    """The summary of a run; {} when there is none yet. Raises DataError where it is no JSON object."""
    path = run / NAME
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; delete it and train again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is no JSON object; delete it and train again")
    return content


def update(run: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Replaces whole sections (`training=…`), keeps the others, and writes the file atomically; returns all of it."""
    run.mkdir(parents=True, exist_ok=True)
    content = {**read(run), **sections}
    write_atomically(run / NAME, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return content


def dataset_section(manifest: Manifest, location: str) -> dict[str, Any]:
    """The section `dataset`: what the manifest says, and where it lies."""
    counts = manifest.content.counts
    names = ("records_in", "quarantined", "exact_duplicates", "near_duplicates", "filtered", "published")
    return {
        **{name: counts[name] for name in names},
        "splits": {name: manifest.splits[name].rows for name in ("train", "validation", "test")},
        "manifest": storage.absolute(location),
        "manifest_root": manifest.manifest_root,
        "delta_version": manifest.delta_version,
        "seconds": manifest.provenance.seconds,
    }
