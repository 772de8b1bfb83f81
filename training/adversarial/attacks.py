"""Attacks within ε of each number: the fast gradient sign method and projected gradient descent.

FGSM is a single step along the sign of the gradient (Goodfellow, Shlens and Szegedy 2015), from a random start where
it trains a model (Wong, Rice and Kolter 2020, "Fast is better than free"). PGD is several such steps, each brought back
into the box (Madry et al. 2018).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.adversarial.surface import Box, Moves, Surface
from training.input.batch_loader import LocalBatch
from training.objectives import Objective, terms_of

Scale = Callable[[Tensor], Tensor]
MADRY, WONG = 2.5, 1.25
"""Sum of the steps of PGD and length of FGSM's step from a random start, in ε, as in the papers."""


@dataclass(frozen=True)
class Attack:
    """Attack by signs of gradients."""

    steps: int
    step_size: float
    """Share of ε."""

    @classmethod
    def pgd(cls, steps: int) -> "Attack":
        """Return PGD with steps that can cross the box more than once."""
        return cls(steps, MADRY / steps)


FGSM = Attack(1, 1.0)


def noise(
    keys: npt.NDArray[np.uint64], shape: tuple[int, ...], seed: int, step: int, stream: int
) -> npt.NDArray[np.float32]:
    """Return uniform numbers from -1 to 1, (rows, *shape), by record key, seed, step and stream alone.

    They are those of Philox (Salmon et al. 2011) with the key of the record (rows, 2) as its key: the same in any batch
    and on any number of ranks.
    """
    found = np.empty((len(keys), *shape), np.float32)
    counter = np.array([0, stream, step, seed], np.uint64)
    for row, key in enumerate(keys):
        generator = np.random.Generator(np.random.Philox(counter=counter, key=key))
        generator.random(out=found[row], dtype=np.float32)
    found *= 2
    found -= 1
    return found


def started(surface: Surface, box: Box, batch: LocalBatch, seed: int, step: int, restart: int = 0) -> Moves:
    """Return uniformly random moves within the box."""
    shapes = {feature.column.name: surface.shape(feature) for feature in surface.features}
    sizes = [math.prod(shape) for shape in shapes.values()]
    # Of all features at once: setting up the generator of a row takes longer than drawing a few numbers.
    drawn = torch.from_numpy(noise(batch.keys, (sum(sizes),), seed, step, restart << 16))
    found = {}
    for (name, shape), part in zip(shapes.items(), torch.split(drawn, sizes, dim=1), strict=True):
        found[name] = part.reshape(-1, *shape).to(batch.features[name].device) * box.radius[name]
    return box.inside(found)


def unmoved(surface: Surface, batch: LocalBatch) -> Moves:
    """Return moves of 0."""
    return {
        feature.column.name: torch.zeros(
            (batch.rows, *surface.shape(feature)), device=batch.features[feature.column.name].device
        )
        for feature in surface.features
    }


def attacked(
    surface: Surface,
    objective: Objective,
    batch: LocalBatch,
    box: Box,
    attack: Attack,
    start: Moves,
    scaled: Scale | None = None,
) -> Moves:
    """Return the moves at the end of an attack on a batch of at least one row, from those at its start.

    The model runs in eval mode, so that dropout plays no part. `scaled` multiplies the loss, for float16.
    """
    moves = start
    with judging(surface.model), torch.enable_grad():
        for _ in range(attack.steps):
            free = {name: one.detach().requires_grad_() for name, one in moves.items()}
            with surface.moved(free):
                loss = terms_of(objective, surface.model, batch).loss.sum()
            loss = loss if scaled is None else scaled(loss)
            slopes = torch.autograd.grad(loss, list(free.values()), allow_unused=True, materialize_grads=True)
            stepped = {
                name: one.detach() + slope.nan_to_num().sign() * (attack.step_size * box.radius[name])
                for (name, one), slope in zip(free.items(), slopes, strict=True)
            }
            moves = box.inside(stepped)
    return moves


@contextmanager
def judging(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode for a while."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)
