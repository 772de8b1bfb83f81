"""Transformer over the features of a row."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.sections import Positive
from schemas.models import ModelSettings


class TransformerClassifier(ModelSettings):
    """`[model] kind = "transformer_classifier"`"""

    kind: Literal["transformer_classifier"] = "transformer_classifier"
    layers: Positive = 2
    width: Positive = 128
    heads: Positive = 4
    feed_forward: Positive | None = None
    """Width of the feed-forward layers; by default 4 × `width`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    pooling: Literal["mean", "max", "mean_max"] = "mean_max"

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self
