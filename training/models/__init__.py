"""Models, one file a kind: `training/models/<kind>.py` with a function `build(settings, features, classes)`."""

from collections.abc import Sequence

from torch import nn

from common import kinds
from schemas.kinds import AnyModel
from schemas.manifest import Column


def build(settings: AnyModel, features: Sequence[Column], classes: int) -> nn.Module:
    """The model of `[model] kind`, its sizes taken from the manifest's feature columns.

    Called with a dict of feature tensors by name, (rows, *shape) each, it returns logits (rows, classes), float32.
    """
    model: nn.Module = kinds.module("training.models", settings.kind).build(settings, features, classes)
    return model
