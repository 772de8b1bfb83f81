"""Models, one file per kind: `training/models/<kind>.py` with a function `build(settings, features, outputs)`."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from common import kinds
from common.errors import UsageError
from schemas.kinds import AnyModel
from schemas.manifest import Column


def build(settings: AnyModel, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the model of `[model] kind` for the manifest's feature columns and the objective's heads.

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
    return model


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
