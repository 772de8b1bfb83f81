"""Random changes of images in training, by `[augment]`, where the batch is: on the GPU where there is one.

What becomes of a row follows from the seed, the epoch and the record key alone, so that it is the same on any number of
ranks, in any batch, and after a resume.
"""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from common.splitmix import GOLDEN, mix
from schemas.manifest import Manifest
from schemas.settings import Augment
from training.input.batch_loader import LocalBatch
from training.input.columns import is_image

DRAWS = 12
"""Random numbers of a row in an epoch."""
ERASED = (0.02, 0.2)
"""Smallest and largest share of an image's area that is erased."""


class Augmentation:
    """Changes of the images of a data set's batches."""

    def __init__(self, settings: Augment, seed: int, manifest: Manifest, device: torch.device) -> None:
        """Set up the changes; `seed` is that of the training."""
        self.settings, self.seed, self.device = settings, seed, device
        self.names = [column.name for column in manifest.content.columns if is_image(column)]

    def __call__(self, batch: LocalBatch) -> LocalBatch:
        """Return a batch of the training split on the device with changed images, float32 in levels of 0 to 255.

        Without any change, of other splits and of other features, everything stays as it is.
        """
        batch = batch.to(self.device)
        if not self.settings.changes or batch.split != "train" or not batch.rows or not self.names:
            return batch
        drawn = torch.from_numpy(draws(batch.keys, self.seed, batch.epoch)).to(self.device)
        changed = {name: self.changed(batch.features[name], drawn) for name in self.names}
        return dataclasses.replace(batch, features={**batch.features, **changed})

    def changed(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Return (n, height, width, channels) images changed by (n, DRAWS) random numbers from 0 to 1."""
        found = images.permute(0, 3, 1, 2).float()
        if self.settings.moves:
            grid = functional.affine_grid(self.placement(drawn, *images.shape[1:3]), list(found.shape), False)
            found = functional.grid_sample(found, grid, "bilinear", "reflection", False)
        if self.settings.brightness:
            factor = 1 + self.settings.brightness * (2 * drawn[:, 5] - 1)
            found = (found * factor[:, None, None, None]).clamp(0, 255)
        if self.settings.erasing:
            found = found.masked_fill(self.erased(drawn, *images.shape[1:3])[:, None], 0.0)
        return found.permute(0, 2, 3, 1)

    def placement(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return what each place of a new image shows of the old one: affine maps, (n, 2, 3), sides from -1 to 1."""
        settings = self.settings
        mirrored = torch.where(drawn[:, 0] < settings.flip, -1.0, 1.0)
        angle = math.radians(settings.rotation) * (2 * drawn[:, 1] - 1)
        size = 1 - settings.crop * drawn[:, 4]
        cosine, sine = size * torch.cos(angle), size * torch.sin(angle)
        across = 2 * settings.shift * (2 * drawn[:, 2] - 1)
        down = 2 * settings.shift * (2 * drawn[:, 3] - 1)
        first = torch.stack([mirrored * cosine, -sine * height / width, across], dim=1)
        second = torch.stack([mirrored * sine * width / height, cosine, down], dim=1)
        return torch.stack([first, second], dim=1)

    def erased(self, drawn: Tensor, height: int, width: int) -> Tensor:
        """Return the places of a rectangle in some of the images, bool (n, height, width) (Zhong et al. 2020)."""
        least, most = ERASED
        area = least + (most - least) * drawn[:, 7]
        shape = torch.exp((2 * drawn[:, 8] - 1) * math.log(2.0))  # height by width, from a half to two
        tall, wide = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
        top, left = drawn[:, 9] * (1 - tall), drawn[:, 10] * (1 - wide)
        rows = (torch.arange(height, device=drawn.device) + 0.5) / height
        columns = (torch.arange(width, device=drawn.device) + 0.5) / width
        inside = ((rows >= top[:, None]) & (rows < (top + tall)[:, None]))[:, :, None]
        inside = inside & ((columns >= left[:, None]) & (columns < (left + wide)[:, None]))[:, None, :]
        return inside & (drawn[:, 6] < self.settings.erasing)[:, None, None]


def draws(keys: npt.NDArray[np.uint64], seed: int, epoch: int) -> npt.NDArray[np.float32]:
    """Return random numbers from 0 to 1 for record keys, (rows, 2): (rows, DRAWS), those of SplitMix64.

    A counter behind the key, the seed and the epoch is scattered.
    """
    state = mix(keys[:, 0] + np.uint64((seed * int(GOLDEN)) & (2**64 - 1)))
    state = mix(state ^ mix(keys[:, 1] + np.uint64(epoch)))
    counted = state[:, None] + np.arange(1, DRAWS + 1, dtype=np.uint64) * GOLDEN
    found: npt.NDArray[np.float32] = ((mix(counted) >> np.uint64(40)) / np.float64(1 << 24)).astype(
        np.float32
    )
    return found
