"""The rows of a claim about pruning: what was saved, and whether the best value was kept."""

from typing import Any

import pytest

from benchmarks.methods.tune import rows_of


def pair(best: float, epochs: int) -> dict[str, Any]:
    return {
        "none": {"best": 0.9, "epochs": 72, "of": 72, "ended": 0},
        "halving": {"best": best, "epochs": epochs, "of": 72, "ended": 5},
    }


@pytest.mark.parametrize(
    ("best", "epochs", "holds"), [(0.9, 36, True), (0.91, 71, True), (0.89, 36, False), (0.9, 72, False)]
)
def test_a_claim_holds_with_fewer_epochs_and_no_lower_best_value(
    best: float, epochs: int, holds: bool
) -> None:
    saved, lost = rows_of("random", [pair(0.9, 18), pair(best, epochs)])
    assert saved["holds"] is holds
    assert saved["interval"] == [round(1 - epochs / 72, 4), 0.75]
    assert lost["interval"] == pytest.approx(sorted([0, 0.9 - best]), abs=1e-4)
