"""Models, one file per kind: `training/models/<kind>.py` with a function `build(settings, features, outputs)`."""

from collections.abc import Mapping, Sequence

from torch import nn

from common import kinds
from schemas.kinds import AnyModel
from schemas.manifest import Column


def build(settings: AnyModel, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the model of `[model] kind` for the manifest's feature columns and the objective's heads.

    The model takes a dict of feature tensors by name, (rows, *shape) each, and returns a dict of outputs by head,
    (rows, size) each, float32.
    """
    model: nn.Module = kinds.module("training.models", settings.kind).build(settings, features, outputs)
    return model
