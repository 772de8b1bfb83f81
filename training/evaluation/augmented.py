"""Rows of the training split as augmentation makes them, as pictures."""

from typing import Any

import torch

from common.images import data_uri, png_of, shown, uint8_of
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.input.augmentation import Augmentation
from training.input.batch_loader import BatchLoader
from training.parallel.world import World

ROWS, EPOCHS = 6, 7


def augmented_rows(config: Configuration, manifest: Manifest) -> list[dict[str, Any]]:
    """Return the training's first rows as they are and in each of its first epochs, for evaluation.json.

    Empty without images or without `[augment]`.
    """
    augmentation = Augmentation(config.augment, config.train.seed, manifest, torch.device("cpu"))
    if not config.augment.changes or not augmentation.names:
        return []
    world = World(0, 1)
    with BatchLoader(
        manifest, "train", config.train, world, batch=ROWS, options=config.storage, with_ids=True
    ) as loader:
        batch = next(loader)
    name, epochs = augmentation.names[0], min(EPOCHS, config.train.epochs)
    versions = [
        batch.features[name],
        *(augmentation(batch.of_epoch(e)).features[name] for e in range(epochs)),
    ]
    assert batch.record_ids is not None
    return [
        {
            "record_id": str(record_id),
            "pictures": [data_uri(shown(png_of(uint8_of(images[row].numpy())))) for images in versions],
        }
        for row, record_id in enumerate(batch.record_ids)
    ]
