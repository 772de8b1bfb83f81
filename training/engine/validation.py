"""Loss and metrics of an objective over a whole split, spread over the ranks, with every row counted once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from schemas.config import Configuration
from schemas.manifest import Manifest
from training.checkpoints.record import Criterion
from training.input.batch_loader import BatchLoader, LocalBatch
from training.input.proof import Proof
from training.objectives import ATTACKED, Objective, Terms, terms_of
from training.parallel import watchdog
from training.parallel.communicator import Communicator


@dataclass(frozen=True)
class Validation:
    """Weighted means over a split."""

    loss: float
    metrics: dict[str, float]


@torch.no_grad()
def validate(
    model: nn.Module,
    objective: Objective,
    manifest: Manifest,
    split: str,
    config: Configuration,
    communicator: Communicator,
    terms_for: Callable[[LocalBatch], Terms] | None = None,
) -> Validation:
    """Validate on a split; called by all ranks. Raises CheckError if a row was not read exactly once.

    The terms are the objective's, or those of `terms_for`. Without any weight the loss is NaN.
    """
    model.eval()
    proof, sums = Proof(), {"loss": 0.0, "weight": 0.0}
    with BatchLoader(
        manifest, split, config.train, communicator.world, batch=config.evaluate.batch, options=config.storage
    ) as loader:
        for batch in loader:
            watchdog.step()
            proof.add(batch.keys)
            if batch.rows:
                batch = batch.to(objective.device)
                terms = terms_of(objective, model, batch) if terms_for is None else terms_for(batch)
                weight = terms.weight.double()
                found = {
                    "loss": terms.loss,
                    **{f"metric {name}": each for name, each in terms.metrics.items()},
                }
                for name, values in found.items():
                    sums[name] = sums.get(name, 0.0) + float((values.double() * weight).sum())
                sums["weight"] += float(weight.sum())
    whole = proof.over_all_ranks(communicator)
    whole.check(manifest.splits[split], f"the {split} split")
    # A rank without rows does not know the names of the metrics.
    names = sorted(set().union(*communicator.gather(list(sums))))
    totals = dict(zip(names, communicator.sum_floats([sums.get(name, 0.0) for name in names]), strict=True))
    # Of nothing there is no mean: a loss of 0 would be the best for ever.
    means = {
        name: total / totals["weight"] if totals["weight"] else math.nan for name, total in totals.items()
    }
    metrics = {name.removeprefix("metric "): means[name] for name in names if name.startswith("metric ")}
    return Validation(means["loss"], metrics)


def deciding(name: str, validation: Mapping[str, Any]) -> str:
    """Return the name of the result that decides in place of an objective's criterion: under attack where there is."""
    return attacked if (attacked := f"{ATTACKED}{name}") in validation else name


def criterion(objective: Objective, validation: Mapping[str, float]) -> Criterion:
    """Return what decides about a validation: the loss, or a metric, under attack where there was one."""
    name = deciding(objective.criterion, validation)
    value = validation[name]
    return Criterion(
        name=name,
        value=value if math.isfinite(value) else None,
        higher_is_better=objective.higher_is_better,
    )


def facts_of(objective: Objective, validation: Mapping[str, float] | None) -> dict[str, Any]:
    """Return what a checkpoint's record says of the validation just before; None: there was none."""
    found = None if validation is None else criterion(objective, validation)
    loss = math.nan if validation is None else validation["loss"]
    return {
        "validation_loss": loss if math.isfinite(loss) else None,
        "criterion": None if found is None or found.name == "loss" else found,
    }


def stale(objective: Objective, validation: Sequence[Mapping[str, float]]) -> int:
    """Return the number of validations since the best, the first among equals.

    A result that is not finite is no improvement.
    """
    best, since = -math.inf, 0
    for entry in validation:
        score = criterion(objective, entry).score
        best, since = (score, 0) if score is not None and score > best else (best, since + 1)
    return since
