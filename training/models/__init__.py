"""Models, one file per kind: `training/models/<kind>.py` with a function `build(settings, features, outputs)`."""

import fnmatch
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torch.utils.checkpoint import checkpoint

from common import kinds
from common.errors import UsageError
from common.storage import Storage
from schemas.config import Configuration
from schemas.kinds import AnyModel
from schemas.manifest import Column, Manifest, read_artifact


class Feature(Column):
    """Feature column, with what its encoder learned of it."""

    statistics: dict[str, Any] = Field(default_factory=dict)
    """Content of its artifact `statistics`, such as the mean and the deviation of an image's channels; {} without."""


def features_of(
    columns: Sequence[Column], manifest: Manifest, options: Storage | None = None
) -> list[Feature]:
    """Return feature columns with their statistics. Raises DataError for an artifact that is missing or damaged."""
    found = []
    for column in columns:
        sha256 = column.artifacts.get("statistics")
        learned = {} if sha256 is None else json.loads(read_artifact(manifest, sha256, options))
        found.append(Feature(**column.model_dump(), statistics=learned))
    return found


def build(settings: AnyModel, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the model of `[model] kind` for the data set's features and the objective's heads.

    The model takes a dict of feature tensors by name, (rows, *shape) each, and returns a dict of outputs by head,
    (rows, size) each, float32. Raises UsageError where `build` returns no module, or one without parameters.
    """
    model = kinds.module("training.models", settings.kind, "build").build(settings, features, outputs)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"`build` of the model {settings.kind!r} must return a torch.nn.Module, not {type(model).__name__}"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"the model {settings.kind!r} has no parameters that could be trained")
    if settings.checkpoint_layers:
        _checkpoint(model, settings.kind)
    return model


def _checkpoint(model: nn.Module, kind: str) -> None:
    """Make the layers of a model recompute themselves in backward. Raises UsageError for a kind that names none."""
    find = getattr(kinds.module("training.models", kind, "build"), "layers", None)
    if find is None:
        raise UsageError(
            f"model.checkpoint_layers: training/models/{kind}.py has no function `layers(model)` that returns the "
            "layers to compute again: leave it out"
        )
    for layer in find(model):
        # Without the older variant, which needs inputs with gradients.
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def resolved(config: Configuration) -> Configuration:
    """Return the configuration with what a model's `resolve` finds out of files that only a training needs."""
    resolve = getattr(kinds.module("training.models", config.model.kind, "build"), "resolve", None)
    return (
        config
        if resolve is None
        else config.model_copy(update={"model": resolve(config.model, config.storage)})
    )


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep the parameters whose names match a pattern (`*` for anything) from being trained.

    Raises UsageError for a pattern that matches none, and where none would be left to train.
    """
    for pattern in patterns:
        matching = [p for name, p in model.named_parameters() if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            names = ", ".join(name for name, _ in model.named_parameters())
            raise UsageError(
                f"train.freeze: {pattern!r} matches no parameter of the model, which has {names}"
            )
        for parameter in matching:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("train.freeze leaves no parameter of the model to train")


def by_head(outputs: torch.Tensor, heads: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Split (rows, sum of sizes), the output of a last layer, into (rows, size) by head."""
    return dict(zip(heads, torch.split(outputs, list(heads.values()), dim=1), strict=True))


def check_outputs(kind: str, outputs: object, wanted: Mapping[str, int], rows: int) -> None:
    """Raise UsageError where a model's outputs for `rows` rows lack a head that the objective wants, or its size."""
    found = {
        head: tuple(value.shape)
        for head, value in (outputs.items() if isinstance(outputs, Mapping) else ())
        if isinstance(value, torch.Tensor)
    }
    for head, size in wanted.items():
        shape = found.get(head, ())
        if not shape or (shape[0], shape[-1]) != (rows, size):
            raise UsageError(
                f"the model {kind!r} must return tensors by head, of which {head!r} is ({rows}, {size}) for {rows} "
                f"rows; it returned {found or type(outputs).__name__}"
            )
