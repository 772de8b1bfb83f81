"""Inputs of a model that an attack may move, how far, and how the model gets to see them moved.

Images move in levels of 0 to 255, numbers and dates on their scale in the shards, texts behind the model's tables of
embeddings, where no move is a text: robustness there certifies nothing about edited texts. Marks of missing values and
outliers, truth values and categories stay as they are.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UsageError
from schemas.config import Configuration
from schemas.features import ScalarFeature, TypedFeature
from schemas.manifest import Column
from training.input.batch_loader import LocalBatch
from training.input.columns import is_image
from training.models.mlp import is_numeric

LEVELS = 255.0
Moves = dict[str, Tensor]
"""By feature, (rows, *shape of a row's moves) float32."""


@dataclass(frozen=True)
class Movable:
    """Feature that an attack may move."""

    column: Column
    kind: Literal["image", "numbers", "embedding"]
    moved: int | None = None
    """First so many numbers of a row that move; None: all."""


@dataclass(frozen=True)
class Box:
    """Lowest and highest moves by feature, each (rows, *shape) or what broadcasts to it."""

    low: Moves
    high: Moves
    radius: Moves
    """ε in the unit of each feature: scalars."""

    def inside(self, moves: Moves) -> Moves:
        """Return the nearest moves within the box."""
        return {name: torch.clamp(one, self.low[name], self.high[name]) for name, one in moves.items()}


def movable(config: Configuration, columns: Sequence[Column]) -> list[Movable]:
    """Return the features among a model's inputs that an attack may move. Raises UsageError where there are none."""
    settings = {feature.name: feature for feature in config.feature}
    found = []
    for column in columns:
        feature = settings.get(column.name)
        if is_image(column):
            found.append(Movable(column, "image"))
        elif is_numeric(column) and isinstance(feature, ScalarFeature):
            found.append(Movable(column, "numbers", moved=1))
        elif is_numeric(column) and not isinstance(feature, TypedFeature):
            found.append(Movable(column, "numbers"))
        elif column.vocabulary is not None and len(column.shape) == 1 and column.shape != [1]:
            found.append(Movable(column, "embedding"))
    if not found:
        names = ", ".join(repr(column.name) for column in columns)
        raise UsageError(
            f"no feature can be attacked: {names} are neither images nor numbers nor texts, and truth values and "
            'categories are left as they are: use method.kind = "plain", and leave evaluate.attack_epsilon out'
        )
    return found


class Surface:
    """Movable inputs of one model."""

    def __init__(self, features: Sequence[Movable], model: nn.Module) -> None:
        """Find the tables of embeddings. Raises UsageError for texts without any, or with tables of several widths."""
        self.features, self.model = features, model
        self.tables: dict[int, list[nn.Embedding]] = {}
        """By vocabulary."""
        for feature in features:
            codes = feature.column.vocabulary
            if feature.kind != "embedding" or codes is None:
                continue
            tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == codes]
            if len({table.embedding_dim for table in tables}) != 1:
                raise UsageError(
                    f"the texts of {feature.column.name!r} are attacked behind their table of embeddings, an "
                    f"nn.Embedding of {codes:,} rows, of which this model has {len(tables)}"
                    f"{' of different widths' if tables else ''}: choose another model or method"
                )
            # Computed again in backward, it would no longer be moved.
            again = [m for m in model.modules() if isinstance(m.forward, functools.partial)]
            if any(inner in tables for layer in again for inner in layer.modules()):
                raise UsageError(
                    f"the table of embeddings of {feature.column.name!r} lies within a layer that "
                    "model.checkpoint_layers computes again, where it cannot be attacked: leave that out"
                )
            self.tables[codes] = tables

    def shape(self, feature: Movable) -> tuple[int, ...]:
        """Return the shape of a row's moves."""
        shape = tuple(feature.column.shape)
        if feature.kind == "embedding":
            return (*shape, self.tables[feature.column.vocabulary or 0][0].embedding_dim)
        return shape

    @torch.no_grad()
    def box(self, batch: LocalBatch, epsilon: float) -> Box:
        """Return what the moves of a batch are limited to by ε, and for images by their range."""
        low, high, radius = {}, {}, {}
        for feature in self.features:
            name, values = feature.column.name, batch.features[feature.column.name]
            unit = torch.ones((), device=values.device)
            if feature.kind == "image":
                unit *= LEVELS
            elif feature.kind == "embedding":
                tables = self.tables[feature.column.vocabulary or 0]
                unit = torch.stack([table.weight.float().square().mean() for table in tables]).mean().sqrt()
            radius[name] = far = epsilon * unit
            if feature.kind == "image":
                levels = values.float()
                low[name], high[name] = -torch.minimum(levels, far), torch.minimum(LEVELS - levels, far)
                continue
            if feature.moved is not None:
                far = far * (torch.arange(feature.column.shape[0], device=values.device) < feature.moved)
            low[name], high[name] = -far, far
        return Box(low, high, radius)

    @contextmanager
    def moved(self, moves: Moves) -> Iterator[None]:
        """Let the model see the inputs of a batch moved, while objectives see them as they are."""
        with ExitStack() as hooks:
            marks = _Marks(self, moves)
            hooks.enter_context(_removed(self.model.register_forward_pre_hook(marks.enter)))
            for codes, tables in self.tables.items():
                table = _Moved(codes, marks)
                for module in tables:
                    # Before others, such as the exchange's, which are to see ids as they are.
                    hooks.enter_context(
                        _removed(module.register_forward_pre_hook(table.before, prepend=True))
                    )
                    hooks.enter_context(_removed(module.register_forward_hook(table.after)))
            yield


class _Marks:
    """Inputs of the model: images and numbers moved, and token ids that carry their place.

    A model may pack, sort and cut its tokens before it looks them up. An id plus a multiple of the vocabulary survives
    that; 0, the padding, stays 0.
    """

    def __init__(self, surface: Surface, moves: Moves) -> None:
        self.surface, self.moves = surface, moves
        self.by_place: dict[int, Tensor] = {}
        """By vocabulary, (1 + places, width): the moves of each place, before them none."""

    def enter(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        features: Mapping[str, Tensor] = arguments[0]
        seen, together = dict(features), dict[int, list[Tensor]]()
        for feature in self.surface.features:
            name, codes = feature.column.name, feature.column.vocabulary or 0
            moves = self.moves[name]
            if feature.kind != "embedding":
                seen[name] = features[name].float() + moves
                continue
            parts = together.setdefault(codes, [moves.new_zeros(1, moves.shape[-1])])
            first = sum(len(part) for part in parts)
            ids = features[name].long()
            places = torch.arange(first, first + ids.numel(), device=ids.device).view_as(ids)
            seen[name] = torch.where(ids == 0, ids, ids + codes * places)
            parts.append(moves.flatten(0, 1))
        self.by_place = {codes: torch.cat(parts) for codes, parts in together.items()}
        return (seen, *arguments[1:])


class _Moved:
    """Look-ups in a table of embeddings, with the moves of their places added."""

    def __init__(self, codes: int, marks: _Marks) -> None:
        self.codes, self.marks = codes, marks
        self.places = torch.zeros(0, dtype=torch.int64)

    def before(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        self.places = torch.div(arguments[0], self.codes, rounding_mode="floor")
        return (arguments[0] % self.codes, *arguments[1:])

    def after(self, _: nn.Module, __: Any, found: Tensor) -> Tensor:
        return found + functional.embedding(self.places, self.marks.by_place[self.codes]).to(found.dtype)


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
