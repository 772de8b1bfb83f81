"""Rules that make one update of those of several silos.

`updates` are (silos, parameters), float32: the weights after a round less those before it. All results are
(parameters,), float32, and do not depend on the order of the silos but for rounding.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.errors import CheckError

COLUMNS = 1 << 16
"""Parameters that are sorted at a time."""


def shares(rows: Sequence[int], norms: Sequence[float], clip: float | None = None) -> list[float]:
    """Return the weight of each silo's update in a mean: its share of the rows (McMahan et al. 2017), times what clips
    its norm to `clip`. With `clip`, an update that is not finite has the weight 0.
    """
    total = max(1, sum(rows))
    return [count / total * _clipped(norm, clip) for count, norm in zip(rows, norms, strict=True)]


def _clipped(norm: float, clip: float | None) -> float:
    if clip is None or norm <= clip:
        return 1.0
    return clip / norm if math.isfinite(norm) else 0.0


def median_norm(norms: Sequence[float]) -> float:
    """Return the median of norms, the lower one of two; less than half of them cannot raise it above all others."""
    return sorted(math.inf if math.isnan(norm) else norm for norm in norms)[(len(norms) - 1) // 2]


def weighted(updates: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of updates in float64, (parameters,); an update whose weight is 0 has no part in it."""
    total = torch.zeros_like(updates[0], dtype=torch.float64)
    for update, weight in zip(updates, weights, strict=True):
        if weight:
            total += update.double() * weight
    return total


def mean(updates: Tensor, rows: Sequence[int], clip: float | None = None) -> Tensor:
    """Return the mean of the updates, weighted by rows (FedAvg, McMahan et al. 2017), each cut to a norm of `clip`
    first (Sun et al. 2019).
    """
    norms = [float(norm) for norm in updates.double().norm(dim=1)]
    return weighted(list(updates), shares(rows, norms, clip)).float()


def _by_column(updates: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a rule to the sorted values of each parameter, a slice of the parameters at a time; NaN sorts last."""
    return torch.cat([rule(part.sort(dim=0).values) for part in torch.split(updates, COLUMNS, dim=1)])


def median(updates: Tensor) -> Tensor:
    """Return the median of each parameter (Yin et al. 2018)."""
    count = len(updates)
    return _by_column(
        updates, lambda values: values[(count - 1) // 2 : count // 2 + 1].double().mean(dim=0).float()
    )


def trimmed_mean(updates: Tensor, hostile: int) -> Tensor:
    """Return the mean of each parameter without its `hostile` lowest and highest values (Yin et al. 2018)."""
    return _by_column(
        updates, lambda values: values[hostile : len(values) - hostile].double().mean(dim=0).float()
    )


def krum_scores(updates: Tensor, hostile: int) -> Tensor:
    """Return Krum's score of each update: the sum of the squared distances to its n - f - 2 nearest others
    (Blanchard et al. 2017); infinite for one that is not finite. Shape (silos,), float64.
    """
    count = len(updates)
    squares = torch.zeros((count, count), dtype=torch.float64)
    for part in torch.split(updates, COLUMNS, dim=1):
        values = part.double()
        for silo in range(count):
            squares[silo] += (values - values[silo]).square().sum(dim=1).cpu()
    squares.nan_to_num_(nan=torch.inf).fill_diagonal_(torch.inf)
    nearest: Tensor = squares.sort(dim=1).values[:, : count - hostile - 2].sum(dim=1)
    return nearest


def chosen_by_krum(updates: Tensor, hostile: int) -> list[int]:
    """Return the n - f silos with the lowest scores, ascending; of equal scores, the lower number."""
    order = krum_scores(updates, hostile).argsort(stable=True)
    return sorted(order[: len(updates) - hostile].tolist())


def multi_krum(updates: Tensor, hostile: int) -> tuple[Tensor, list[int]]:
    """Return the mean of the updates that Krum chooses, each with the same weight, and the silos left out."""
    chosen = chosen_by_krum(updates, hostile)
    weights = [1 / len(chosen)] * len(chosen)
    left_out = sorted(set(range(len(updates))) - set(chosen))
    return weighted([updates[silo] for silo in chosen], weights).float(), left_out


def check_finite(update: Tensor, rule: str) -> Tensor:
    """Return the update. Raises CheckError if it is not finite."""
    if not bool(torch.isfinite(update).all()):
        raise CheckError(
            f"the {rule} of the silos' updates is not finite: lower optimizer.learning_rate, set train.clip_norm, or "
            'take a rule that bears hostile silos (method.combine = "median")'
        )
    return update
