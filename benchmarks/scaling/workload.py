"""Workload that every case trains: two models, and batches in memory, so that reading plays no part."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from schemas.manifest import Column
from schemas.models.transformer_classifier import TransformerClassifier
from training import models
from training.input.batch_loader import LocalBatch

VOCABULARY, LENGTH, CLASSES = 8192, 128, 9
ROWS = 32
"""Rows of a rank: half of the demo's global batch of 64."""
MEDIAN, SPREAD = 16, 1.7
"""Lengths are log-normal, cut at LENGTH: like the demo's, with a median of 16 tokens and an eighth of the rows cut."""
BATCHES = 32
"""Different batches, cycled through."""

MODELS = {
    "demo": TransformerClassifier(layers=1, width=64, heads=4),
    "ten_times": TransformerClassifier(layers=5, width=256, heads=4),
}


@dataclass(frozen=True)
class Workload:
    """Rows of a rank: `even` gives every rank as many tokens; otherwise as drawn."""

    model: str
    rank: int
    even: bool

    def build(self) -> nn.Module:
        """Return the model, with the same weights on every rank."""
        torch.manual_seed(0)
        column = Column(
            name="tokens",
            role="feature",
            dtype="uint16",
            shape=[LENGTH],
            storage="binary",
            vocabulary=VOCABULARY,
        )
        return models.build(MODELS[self.model], [column], {"logits": CLASSES})

    def batches(self, ranks: int) -> list[LocalBatch]:
        """Return BATCHES of ROWS rows, token ids Zipf-like as in texts."""
        mine = np.random.default_rng([7, self.rank])
        lengths_from = np.random.default_rng(7) if self.even else mine
        made = []
        for number in range(BATCHES):
            drawn = np.exp(lengths_from.normal(math.log(MEDIAN), SPREAD, ROWS))
            lengths = mine.permutation(drawn.clip(1, LENGTH).astype(np.int64))
            ids = 1 + (mine.zipf(1.2, (ROWS, LENGTH)) - 1) % (VOCABULARY - 1)
            tokens = np.where(np.arange(LENGTH) < lengths[:, None], ids, 0).astype(np.int32)
            made.append(
                LocalBatch(
                    {"tokens": torch.from_numpy(tokens)},
                    torch.from_numpy(mine.integers(0, CLASSES, ROWS)),
                    np.zeros((ROWS, 2), dtype=np.uint64),
                    None,
                    ROWS,
                    ROWS * ranks,
                    0,
                    (number + 1) * ROWS * ranks,
                )
            )
        return made
