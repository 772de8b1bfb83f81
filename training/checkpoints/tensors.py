"""Tensors of a training's state."""

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from common.errors import DataError
from schemas.config import canonical_json


def weights_sha256(model: nn.Module) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of the model's tensors, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(canonical_json([name, str(array.dtype), list(array.shape)]))
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def copied(value: Any) -> Any:
    """Copy a value to fresh memory on the CPU, with no object shared within it, so that equal states give equal bytes.

    Pickle writes a second occurrence of an object as a reference. That would distinguish a resumed training's state,
    whose objects were made by loading, from an uninterrupted one's.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {copied(key): copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([copied(item) for item in value])
    return sys.intern(value) if isinstance(value, str) else value


def load_model(model: nn.Module, state: Mapping[str, Any], file: str) -> None:
    """Load the weights of a checkpoint into a model. Raises DataError if they do not fit."""
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, KeyError) as error:
        raise DataError(
            f"the weights in {file} do not fit the model: {str(error).splitlines()[0]}"
        ) from error
