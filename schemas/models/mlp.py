"""Multilayer perceptron over the columns of a table."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import Positive
from schemas.models import ModelSettings


class Mlp(ModelSettings):
    """`[model] kind = "mlp"`: numbers, dates, truth values and categories, through fully connected layers."""

    kind: Literal["mlp"] = "mlp"
    widths: Annotated[list[Positive], Field(min_length=1)] = [128, 64]
    """Width of each hidden layer."""
    embedding: Positive | None = None
    """Width of the embedding of a category; by default 1.6 × codes^0.56, at most 600."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
