"""Half precision in forward and backward, beside float32 weights, gradients and optimizer: `train.precision`."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from schemas.settings import Train

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LEAST_SCALE = 1.0
"""Scale of the loss from which on an overflow is no longer the scale's fault."""


class Precision:
    """Automatic casts of `train.precision`, and for fp16 a loss scale that adapts to overflows.

    The scaled gradients are summed over the ranks before anyone looks at them: an infinity of one rank is then in the
    sum, and all ranks skip the step and lower the scale alike.
    """

    def __init__(self, settings: Train, device: torch.device, model: nn.Module) -> None:
        """Set up the casts; outputs of `model` come back as float32, in which losses are computed."""
        self.half, self.device = HALVES.get(settings.precision), device.type
        self.scaler = torch.amp.GradScaler(device.type) if self.half == torch.float16 else None
        if self.scaler is not None:
            # It sets up its state with the first loss, and a rank may have none.
            self.scaler.scale(torch.zeros((), device=device))
        if self.half is not None:
            model.register_forward_hook(_widened)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        return nullcontext() if self.half is None else torch.autocast(self.device, self.half)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss for `backward`."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> bool:
        """Undo the scale in the summed gradients, and adapt it; return True if it was so high that they overflowed."""
        if self.scaler is None:
            return False
        before = self.scaler.get_scale()
        self.scaler.unscale_(optimizer)
        self.scaler.update()
        return self.scaler.get_scale() < before > LEAST_SCALE

    def state(self) -> dict[str, Any]:
        """Return the scale and the steps since it last changed; {} without."""
        return {} if self.scaler is None else dict(self.scaler.state_dict())

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state`."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)


def _widened(_: nn.Module, __: Any, outputs: Any) -> Any:
    return {head: value.float() for head, value in outputs.items()} if isinstance(outputs, dict) else outputs
