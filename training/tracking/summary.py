"""`runs/<run>/summary.json`, which training, evaluation and reports fill in one after another."""

import json
from pathlib import Path
from typing import Any

from common import files, storage
from schemas.manifest import Manifest
from training.tracking.run_files import SUMMARY_FILE, read_json


def read(run: Path) -> dict[str, Any]:
    """The summary of a run; {} when there is none yet. Raises DataError where it is no JSON object."""
    return read_json(run / SUMMARY_FILE) or {}


def update(run: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Replaces whole sections (`training=…`), keeps the others, and writes the file atomically; returns all of it."""
    content = {**read(run), **sections}
    files.write(run / SUMMARY_FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
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
