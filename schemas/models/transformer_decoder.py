"""Transformer that predicts each token of a row from those before it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.sections import Positive
from schemas.models import ModelSettings


class TransformerDecoder(ModelSettings):
    """`[model] kind = "transformer_decoder"`"""

    kind: Literal["transformer_decoder"]
    layers: Positive = 2
    width: Positive = 128
    heads: Positive = 4
    feed_forward: Positive | None = None
    """Width of the feed-forward layers; by default 4 × `width`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    positions: Literal["rotary", "learned"] = "rotary"
    """`rotary`: turn queries and keys by their positions; `learned`: add an embedding a position."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(
                f"a head has {self.width // self.heads} elements, which rotary positions turn in pairs"
            )
        return self
