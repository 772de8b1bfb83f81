"""Records of the validation and test splits from which the run of `model.start` has already learned.

They are found by their ids, so that a text under another id is not.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import storage
from common.errors import DataError
from common.storage import Storage
from common.wording import counted
from provenance.keys import record_keys
from schemas.config import Configuration
from schemas.manifest import Manifest, load, published
from schemas.runs import manifest_of, roots_of
from schemas.tables import Layout
from training.input.columns import to_array
from training.input.shards import read_row_groups
from training.tracking.run_files import read_run

Keys = npt.NDArray[np.uint64]
"""First halves of record keys: (records,)."""
JUDGED = ("validation", "test")


def overlap(run: Path, config: Configuration, manifest: Manifest) -> dict[str, Any]:
    """Count the records that a manifest judges by and that stand in the training splits of another run.

    Returns for each split its `records` and how many of them were `learned`, and as `unchecked` the manifest roots of
    the other run whose manifest or shards are gone. Memory holds 8 bytes and a mark a record judged by; the other run's
    records are read a row group at a time.
    """
    options = config.storage
    judged = {split: np.unique(np.concatenate([_NONE, *_keys(manifest, split, options)])) for split in JUDGED}
    learned = {split: np.zeros(len(keys), bool) for split, keys in judged.items()}
    places, unchecked = _manifests(run, config), []
    for root in sorted(roots_of(run) - {manifest.manifest_root}):  # its own splits have no record in common
        try:
            other = load(places[root[:16]], options)
            for keys in _keys(other, "train", options):
                for split, wanted in judged.items():
                    learned[split] |= np.isin(wanted, keys)
        except (KeyError, DataError):
            unchecked.append(root)
    splits = {
        split: {"records": len(keys), "learned": int(learned[split].sum())} for split, keys in judged.items()
    }
    return {"splits": splits, "unchecked": unchecked}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the records to judge by, in words; none where nothing is."""
    parts = [
        f"{one['learned']:,} of the {counted(one['records'], 'record')} of the {split} split"
        for split, one in found["splits"].items()
        if one["learned"]
    ]
    said = []
    if parts:
        said.append(
            f"the run of model.start has learned from {' and '.join(parts)}: figures on them are too good; leave them "
            "out of the sources of its data set, or start from another run"
        )
    if roots := found["unchecked"]:
        shown = ", ".join(f"{root[:16]}…" for root in roots)
        said.append(
            "it could not be checked whether the run of model.start has learned from records of the validation and "
            f"test splits: the data with the manifest root {shown} are gone"
        )
    return said


_NONE: Keys = np.zeros(0, np.uint64)


def _keys(manifest: Manifest, split: str, options: Storage) -> Iterator[Keys]:
    """Yield the keys of the records of a split, a row group at a time. Raises DataError for an unreadable shard."""
    roles = {column.role for column in manifest.content.columns}
    column = manifest.column("documents" if "documents" in roles else "key")
    for table, where in read_row_groups(manifest, split, [column], options):
        values = to_array(table, column, where)
        if column.role == "documents":
            values = record_keys({part["record_id"] for row in values for part in row})
        yield values[:, 0].astype(np.uint64)


def _manifests(run: Path, config: Configuration) -> dict[str, str]:
    """Return where manifests lie by the beginning of their roots: of this data set, and of the other run's."""
    folders = [Layout.of(config).manifests]
    began = read_run(run)
    if began is not None:
        with contextlib.suppress(DataError):  # where it has no place any more; `unchecked` says so
            folders.append(storage.parent(manifest_of(run, began, config.storage, None, None)))
    found = (place for folder in folders for place in published(folder, config.storage).values())
    return {place.removesuffix(".json")[-16:]: place for place in found}
