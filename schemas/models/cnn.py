"""Convolutional network over images."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import Positive
from schemas.models import ModelSettings


class Cnn(ModelSettings):
    """`[model] kind = "cnn"`"""

    kind: Literal["cnn"] = "cnn"
    channels: Annotated[list[Positive], Field(min_length=1)] = [32, 64, 128]
    """Channels of each block: convolution, normalisation, ReLU, max pooling, which halves both sides."""
    kernel: Literal[1, 3, 5, 7] = 3
    """Pixels of a convolution's side."""
    pooled: Positive = 7
    """Most pixels of a side of what the last block gives, in front of the heads; larger ones are averaged."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """In front of the heads."""
