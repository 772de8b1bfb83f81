"""The product's own reader, as training uses it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.input.generate import DataSet
from benchmarks.input.loaders import BATCH, Batches, Job, Numbers
from schemas import manifest as contract
from schemas.settings import Train
from training.input.batch_loader import BatchLoader
from training.parallel.world import World


def prepare(folder: Path, rows: int) -> None:
    """Do nothing: the shards exist already."""


def feed_of(job: Job, position: int = 0) -> BatchLoader:
    """Return the loader of one rank; `options` holds the variant of the shards, and keys of `[train]`."""
    options = dict(job.options)
    data = DataSet.load(job.folder)
    variant = options.pop("variant", next(iter(data.manifests)))
    settings = Train(**{"workers": 2, "window": 8, **options})
    manifest = contract.load(data.manifests[variant])
    world = World(job.rank, job.ranks)
    # As on any number of ranks, `batch` counts the rows of all of them.
    return BatchLoader(
        manifest, data.split, settings, world, epochs=job.epochs, position=position, batch=BATCH * job.ranks
    )


def batches(job: Job) -> Batches:
    with feed_of(job) as loader:
        for batch in loader:
            features = list(batch.features.values())
            yield features[0] if len(features) == 1 else torch.cat(features, dim=1), batch.keys


def numbers(identities: list[Any], folder: Path) -> Numbers:
    """Return row numbers by record keys; -1 for a key that no row has."""
    keys, found = np.load(folder / "keys.npy"), np.concatenate([np.zeros((0, 2), np.uint64), *identities])
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    at = np.minimum(np.searchsorted(keys[order, 0], found[:, 0]), len(keys) - 1)
    return np.where((keys[order][at] == found).all(axis=1), order[at], -1)
