"""A multilayer perceptron over numbers, dates, truth values and categories, with a linear layer for each head."""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from common.errors import UsageError
from schemas.manifest import Column
from schemas.models.mlp import Mlp as Settings
from training.models import by_head

WIDEST_EMBEDDING = 600
HEADS = "output."
"""Beginning of the names of the tensors above the body."""


def build(settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the perceptron; see `training.models.build`. Raises UsageError as `Columns` does."""
    return Mlp(settings, features, outputs)


class Mlp(nn.Module):
    """Columns → hidden layers of `widths` with GELU and dropout → heads."""

    def __init__(self, settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.columns = Columns(settings.kind, features, settings.embedding)
        self.hidden = connected([self.columns.width, *settings.widths], settings.dropout)
        self.heads = dict(outputs)
        self.output = nn.Linear(settings.widths[-1], sum(self.heads.values()))

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map columns by name to (n, size) float32 by head."""
        return by_head(self.output(self.hidden(self.columns(features))), self.heads)


def layers(model: Mlp) -> list[nn.Module]:
    """Return all hidden layers in one piece."""
    return [model.hidden]


class Columns(nn.Module):
    """All columns of a row side by side: numbers as they are, categories as learned embeddings (n, `width`)."""

    def __init__(self, kind: str, features: Sequence[Column], embedding: int | None = None) -> None:
        """Set up the embeddings for the model `kind`.

        Raises UsageError for a feature that is neither a row of numbers nor one category.
        """
        super().__init__()
        for feature in features:
            if not is_numeric(feature) and not is_category(feature):
                raise UsageError(
                    f"the feature {feature.name!r} ({feature.dtype}, {feature.shape} a row) is no number, date, truth "
                    f"value or category, which model.kind = {kind!r} takes: choose another model, or leave it out"
                )
        self.numbers = [feature.name for feature in features if is_numeric(feature)]
        self.categories = nn.ModuleDict(
            {
                # A name with a point would be a path of modules.
                f"category {place}": nn.Embedding(codes, embedding or embedding_width(codes))
                for place, codes in enumerate(f.vocabulary or 1 for f in features if is_category(f))
            }
        )
        self.category_names = [feature.name for feature in features if is_category(feature)]
        widths = [feature.shape[0] for feature in features if is_numeric(feature)]
        self.width = sum(widths) + sum(one.embedding_dim for one in self.categories.values())  # type: ignore[misc]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        parts = [features[name] for name in self.numbers]
        for name, embedding in zip(self.category_names, self.categories.values(), strict=True):
            parts.append(embedding(features[name][:, 0]))
        return torch.cat(parts, dim=1)


def is_numeric(column: Column) -> bool:
    """Return True for a row of numbers, such as a number, a date or a truth value with their marks."""
    return column.dtype.startswith("float") and len(column.shape) == 1


def is_category(column: Column) -> bool:
    """Return True for one code a row."""
    return column.vocabulary is not None and column.shape == [1]


def embedding_width(codes: int) -> int:
    """Return the width of an embedding, by the rule of thumb of fastai (Howard and Gugger, *Information* 11, 2020)."""
    return min(WIDEST_EMBEDDING, round(1.6 * math.pow(codes, 0.56)))


def connected(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Return fully connected layers between these widths, each with GELU and dropout behind it."""
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        parts += [nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts)
