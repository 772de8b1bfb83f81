"""Exponential moving average of the weights: `train.ema_decay`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a model whose `update_parameters(model)` moves it towards that one by a share 1 - `decay`.

    In the first steps the share is larger, (9 / (10 + step)), so that the first random weights are soon forgotten
    (Abadi et al. 2015, TensorFlow's ExponentialMovingAverage).
    """

    def move(mean: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean), list(weights), share)

    return AveragedModel(model, multi_avg_fn=move)
