"""The row of a claim about pruning: what was saved, and whether the best value was kept."""

from typing import Any

import pytest

from benchmarks.methods.tune import row


def pair(seed: int, best: float, epochs: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "none": {"best": 0.9, "epochs": 72, "of": 72, "ended": 0},
        "halving": {"best": best, "epochs": epochs, "of": 72, "ended": 5},
    }


@pytest.mark.parametrize(
    ("best", "epochs", "holds"), [(0.9, 36, True), (0.91, 71, True), (0.89, 36, False), (0.9, 72, False)]
)
def test_a_claim_holds_with_fewer_epochs_and_no_lower_best_value(
    best: float, epochs: int, holds: bool
) -> None:
    found = row("random", [pair(0, 0.9, 18), pair(1, best, epochs)], [0, 1])
    assert found["holds"] is holds
    assert found["interval"] == [round(1 - epochs / 72, 3), 0.75]
    assert found["measured"].count("seed ") == 2
    assert found["command"].endswith("--seeds 0 1")
