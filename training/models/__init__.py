"""Models, one file a kind: `training/models/<kind>.py` with a function `build(settings, features, outputs)`."""

from collections.abc import Mapping, Sequence

from torch import nn

from common import kinds
from schemas.kinds import AnyModel
from schemas.manifest import Column


def build(settings: AnyModel, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """The model of `[model] kind`, for the manifest's feature columns and the heads that the objective asks for.

    Called with a dict of feature tensors by name, (rows, *shape) each, it returns one of outputs by head, (rows, size)
    each, float32.
    """
    model: nn.Module = kinds.module("training.models", settings.kind).build(settings, features, outputs)
    return model
