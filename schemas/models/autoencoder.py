"""Autoencoder over the columns of a table."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import Positive
from schemas.models import ModelSettings


class Autoencoder(ModelSettings):
    """`[model] kind = "autoencoder"`: a row squeezed into few numbers, and given back from these."""

    kind: Literal["autoencoder"] = "autoencoder"
    widths: Annotated[list[Positive], Field(min_length=1)] = [32]
    """Width of each layer before the bottleneck; those behind it have the same, in reverse."""
    bottleneck: Positive = 4
    """Numbers that a row is squeezed into."""
    embedding: Positive | None = None
    """Width of the embedding of a category; by default 1.6 × codes^0.56, at most 600."""
