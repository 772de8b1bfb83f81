"""The mistakes that a classifier of images is most confident of, as pictures."""

from collections.abc import Sequence
from typing import Any

import torch

from common.images import data_uri, png_of, shown, uint8_of
from schemas.manifest import Column
from training.input.batch_loader import LocalBatch
from training.input.columns import is_image

MOST = 24


class Mistakes:
    """The wrongly classified rows with the highest probability of the class that was predicted."""

    def __init__(self, features: Sequence[Column]) -> None:
        self.image = next((feature.name for feature in features if is_image(feature)), None)
        self.found: list[tuple[float, int, int, bytes]] = []

    def add(self, batch: LocalBatch, logits: torch.Tensor) -> None:
        """Add a batch and its logits, (rows, classes); without images nothing is kept."""
        if self.image is None or batch.labels is None or not batch.rows:
            return
        confidence, predicted = logits.softmax(dim=1).max(dim=1)
        wrong = (predicted != batch.labels).nonzero().squeeze(1)
        first = wrong[confidence[wrong].argsort(descending=True, stable=True)][:MOST]
        for place in first.tolist():
            png = png_of(uint8_of(batch.features[self.image][place].numpy()))
            row = (float(confidence[place]), int(batch.labels[place]), int(predicted[place]), shown(png))
            self.found.append(row)
        self.found = sorted(self.found, key=lambda row: -row[0])[:MOST]

    def told(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the mistakes for evaluation.json; nothing without images."""
        if self.image is None:
            return {}
        rows = [
            {
                "true": classes[true],
                "predicted": classes[taken],
                "confidence": confidence,
                "picture": data_uri(png),
            }
            for confidence, true, taken, png in self.found
        ]
        return {"mistakes": rows}
