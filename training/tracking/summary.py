"""`runs/<run>/summary.json`, filled in by training, evaluation and reports in turn."""

import json
from pathlib import Path
from typing import Any

from common import files, storage
from common.command import without_passwords
from schemas.manifest import Manifest
from training.tracking.run_files import SUMMARY_FILE, read_json


def read(run: Path) -> dict[str, Any]:
    """Read the summary of a run; {} if there is none yet. Raises DataError if it is not a JSON object."""
    return read_json(run / SUMMARY_FILE) or {}


def update(run: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Replace whole sections (`training=…`), keep the others, and write the file atomically; return all of it."""
    content = {**read(run), **sections}
    files.write(run / SUMMARY_FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return content


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
