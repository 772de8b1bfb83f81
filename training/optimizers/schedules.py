"""Schedules of the learning rate, as arithmetic of the step."""

import math

from schemas.kinds import AnyOptimizer

FIRST_OF_CYCLE = 1 / 25
"""Share of the highest rate that one cycle begins with, as in PyTorch's OneCycleLR."""


def learning_rate(settings: AnyOptimizer, step: int, total: int, epochs: int) -> float:
    """Return the rate of a step, counted from 0, out of `total` in `epochs`.

    In the first `warm_up` of the steps it rises, linearly or in one cycle along half a cosine. From there on:

    - `cosine`: half a cosine down to `final` (Loshchilov and Hutter 2017, SGDR, without restarts);
    - `exponential`: times `decay` an epoch, a little in each step;
    - `step`: times `decay` after every `step_epochs` epochs, which count from the beginning of the training;
    - `constant`: as it is;
    - `one_cycle`: half a cosine down to `final` (Smith and Topin 2018); the momentum stays as it is.
    """
    warm_up = round(settings.warm_up * total)
    rising, epoch = (step + 1) / max(1, warm_up), step * epochs / max(1, total)
    after = (step - warm_up) / max(1, total - warm_up)
    match settings.schedule:
        case "one_cycle" if step < warm_up:
            share = FIRST_OF_CYCLE + (1 - FIRST_OF_CYCLE) * (1 - _annealed(rising))
        case "cosine" | "one_cycle":
            share = settings.final + (1 - settings.final) * _annealed(after)
        case "exponential":
            share = settings.decay ** max(0.0, epoch - warm_up * epochs / max(1, total))
        case "step":
            share = settings.decay ** math.floor(epoch / settings.step_epochs)
        case _:
            share = 1.0
    if step < warm_up and settings.schedule != "one_cycle":
        share = rising
    return settings.learning_rate * share


def _annealed(progress: float) -> float:
    """Return half a cosine, from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
