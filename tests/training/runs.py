"""Results of a run on a small published data set, and settings under which two runs can be compared."""

from typing import Any

import torch

from tests.training.published import Published
from training.tracking import summary

# Without dropout, whose random numbers differ between ranks and devices, and with Adam's epsilon above the rounding
# errors of gradients that are 0 in exact arithmetic.
EXACT = ("--set", "model.dropout=0.0", "--set", "optimizer.epsilon=1e-3")


def result(published: Published, run: str) -> dict[str, Any]:
    """Return the section of a run's summary about its training."""
    section: dict[str, Any] = summary.read(published.root / "runs" / run)["training"]
    return section


def weights(published: Published, run: str) -> dict[str, torch.Tensor]:
    """Return the model of a run's last checkpoint."""
    state = torch.load(result(published, run)["checkpoint"], weights_only=True)
    loaded: dict[str, torch.Tensor] = state["model"]
    return loaded
