"""The tensors of a training's state."""

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from common.errors import DataError
from schemas.config import canonical_json


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of the model's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(canonical_json([name, str(array.dtype), list(array.shape)]))
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def copied(value: Any) -> Any:
    """The same value in fresh memory on the CPU, no object standing in it twice: so equal states give equal bytes.

    Pickle writes a second occurrence of an object as a reference, which would tell a resumed training's state, whose
    objects were made by loading, from an uninterrupted one's.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {copied(key): copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([copied(item) for item in value])
    return sys.intern(value) if isinstance(value, str) else value


def load_model(model: nn.Module, state: Mapping[str, Any], file: str) -> None:
    """Puts the weights of a checkpoint into a model. Raises DataError where they do not fit."""
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, KeyError) as error:
        raise DataError(
            f"the weights in {file} do not fit the model: {str(error).splitlines()[0]}"
        ) from error
