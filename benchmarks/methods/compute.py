"""Floating-point operations of a model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Shape = tuple[int, ...]


def _forward(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
"""Attention as CPUs compute it, which PyTorch's own counter leaves out; the backward pass computes the scores again."""


def training_flops(model: nn.Module, features: Mapping[str, Tensor]) -> int:
    """Return the floating-point operations of a forward and a backward pass over a batch of features by name.

    Multiplications and additions of matrix products, convolutions and attention count, each as one; elementwise
    operations, look-ups and the optimizer do not.
    """
    # Without dropout, with which attention takes another way on a CPU.
    model.eval()
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        torch.stack([output.sum() for output in model(features).values()]).sum().backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())
