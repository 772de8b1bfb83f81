"""A convolutional network over images of one size, with linear heads.

Blocks of convolution, normalisation, ReLU and max pooling (LeCun et al. 1998; Simonyan and Zisserman 2015). The
normalisation is by groups of channels (Wu and He 2018): a row's result depends on no other row of its batch, and so not
on how many ranks share it.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from common.errors import UsageError
from schemas.manifest import Column
from schemas.models.cnn import Cnn as Settings
from training.models import Feature, by_head

GROUPS = 8
"""Most groups of channels that are normalised on their own."""
BLOCK = 4
"""Modules of a block: convolution, normalisation, ReLU, max pooling."""
HEADS = "output."
"""Beginning of the names of the tensors above the body."""


def build(settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the network; see `training.models.build`.

    Raises UsageError for features that are no images, and for images too small for the blocks.
    """
    smallest = 2 ** len(settings.channels)
    for feature in features:
        if (
            not isinstance(feature, Feature)
            or "deviation" not in feature.statistics
            or len(feature.shape) != 3
        ):
            raise UsageError(
                f"the feature {feature.name!r} ({feature.dtype}, {feature.shape} a row) is no image, which "
                f"model.kind = {settings.kind!r} takes: choose another model, or leave it out"
            )
        if min(feature.shape[:2]) < smallest:
            raise UsageError(
                f"the images of {feature.name!r} are {feature.shape[0]} × {feature.shape[1]} pixels, too small for "
                f"the {len(settings.channels)} blocks of model.channels, each of which halves them: give at most "
                f"{int(math.log2(min(feature.shape[:2])))}"
            )
    return Cnn(settings, [feature for feature in features if isinstance(feature, Feature)], outputs)


class Cnn(nn.Module):
    """Images → blocks → heads; several features have blocks of their own."""

    def __init__(self, settings: Settings, features: Sequence[Feature], outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.names = [feature.name for feature in features]
        self.images = nn.ModuleList(ImageEncoder(settings, feature) for feature in features)
        self.dropout = nn.Dropout(settings.dropout)
        self.heads = dict(outputs)
        width = sum(image.width for image in self.images)  # type: ignore[misc]
        self.output = nn.Linear(width, sum(self.heads.values()))

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map images by feature, (n, height, width, channels) in levels of 0 to 255, to (n, size) float32 by head."""
        found = [image(features[name]) for name, image in zip(self.names, self.images, strict=True)]
        return by_head(self.output(self.dropout(torch.cat(found, dim=1))), self.heads)


class ImageEncoder(nn.Module):
    """Blocks over the images of one feature: (n, height, width, channels) → (n, `width`)."""

    def __init__(self, settings: Settings, feature: Feature) -> None:
        super().__init__()
        learned = feature.statistics
        self.register_buffer("mean", torch.tensor(learned["mean"], dtype=torch.float32))
        # An image of one colour alone has no deviation.
        scale = [1 / deviation if deviation else 1.0 for deviation in learned["deviation"]]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        parts: list[nn.Module] = []
        for before, after in zip([feature.shape[2], *settings.channels], settings.channels, strict=False):
            parts += [
                nn.Conv2d(before, after, settings.kernel, padding="same", bias=False),
                nn.GroupNorm(math.gcd(after, GROUPS), after),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        sides = [side // 2 ** len(settings.channels) for side in feature.shape[:2]]
        # Of a fixed kernel: the backward pass of adaptive pooling is not deterministic on a GPU.
        kernel = tuple(-(-side // settings.pooled) for side in sides)
        if kernel != (1, 1):
            parts.append(nn.AvgPool2d(kernel, ceil_mode=True))
        self.blocks = nn.Sequential(*parts)
        # In a list of its own, which adds no names of parameters.
        self.steps = [self.blocks[first : first + BLOCK] for first in range(0, len(parts), BLOCK)]
        pooled = [-(-side // size) for side, size in zip(sides, kernel, strict=True)]
        self.width = settings.channels[-1] * math.prod(pooled)

    def forward(self, images: Tensor) -> Tensor:
        # The pixels of a channel stay apart in memory, as convolutions like them on a CPU as well as on a GPU.
        scaled = (images.float() - self.get_buffer("mean")) * self.get_buffer("scale")
        found = scaled.permute(0, 3, 1, 2)
        for step in self.steps:
            found = step(found)
        return found.flatten(1)


def layers(model: Cnn) -> list[nn.Module]:
    """Return the blocks of all images."""
    return [step for image in model.images for step in image.steps]  # type: ignore[union-attr]
