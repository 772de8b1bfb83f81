"""Adasum: `train.reduction = "adasum"` (Maleki et al. 2021, "Scaling Distributed Training with Adaptive Summation")."""

import torch
from torch import Tensor, nn

from training.parallel.communicator import Communicator


class Adasum:
    """Exchange after backward that adds what is orthogonal in the ranks' gradients and averages what is parallel.

    The gradients of all ranks travel to each, so it sends as often as many bytes as there are ranks. They are combined
    parameter by parameter and pair by pair, in the order of the ranks; a rank's gradient is that of the mean over
    batch / ranks rows. Horovod has it with MPI alone, and for powers of two.
    """

    def __init__(self, model: nn.Module, communicator: Communicator) -> None:
        self.communicator = communicator
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.sizes = [parameter.numel() for parameter in self.parameters]

    def begin(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def backward(self, loss: Tensor | None, last: bool = True) -> None:
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]

    def sum(self) -> None:
        world = self.communicator.world
        buffer = torch.zeros(world.size, sum(self.sizes), device=self.parameters[0].device)
        for parameter, part in zip(self.parameters, torch.split(buffer[world.rank], self.sizes), strict=True):
            if parameter.grad is not None:
                torch.mul(parameter.grad.view(-1), world.size, out=part)
        # All other ranks bring zeros here: what comes is each rank's own.
        gathered = self.communicator.begin_sum(buffer, f"adasum.{buffer.numel()}")()
        of_ranks = torch.split(gathered, self.sizes, dim=1)
        for parameter, gradients in zip(self.parameters, of_ranks, strict=True):
            parameter.grad = combined(gradients).view_as(parameter)

    def close(self) -> None:
        """Do nothing: nothing was attached."""


def combined(gradients: Tensor) -> Tensor:
    """Return the adaptive sum of (ranks, elements): (elements,)."""
    while len(gradients) > 1:
        pairs = [pair(*gradients[place : place + 2]) for place in range(0, len(gradients) - 1, 2)]
        odd = [gradients[-1]] if len(gradients) % 2 else []
        gradients = torch.stack([*pairs, *odd])
    return gradients[0]


def pair(first: Tensor, second: Tensor) -> Tensor:
    """Return the adaptive sum of two vectors: (1 - a·b / 2|a|²) a + (1 - a·b / 2|b|²) b."""
    product = torch.dot(first, second)
    shares = [
        # A gradient of zeros adds nothing, whatever its share.
        torch.where(length > 0, 1 - product / (2 * length), 1.0)
        for length in (torch.dot(first, first), torch.dot(second, second))
    ]
    return shares[0] * first + shares[1] * second
