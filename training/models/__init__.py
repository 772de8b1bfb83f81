"""Models, one file a kind: `training/models/<kind>.py` with a function `build(settings, features, classes)`."""

import importlib
from collections.abc import Sequence

from torch import nn

from schemas.manifest import Column
from schemas.settings import AnyModel


def build(settings: AnyModel, features: Sequence[Column], classes: int) -> nn.Module:
    """The model of `[model] kind`, its sizes taken from the manifest's feature columns.

    Called with a dict of feature tensors by name, (rows, *shape) each, it returns logits (rows, classes), float32.
    """
    module = importlib.import_module(f"training.models.{settings.kind}")
    model: nn.Module = module.build(settings, features, classes)
    return model
