"""The rows of a claim about pruning: what was saved, and whether the best value was kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.methods import tune


def pair(best: float, epochs: int) -> dict[str, Any]:
    return {
        "none": {"best": 0.9, "epochs": 72, "of": 72, "ended": 0},
        "halving": {"best": best, "epochs": epochs, "of": 72, "ended": 5},
    }


@pytest.mark.parametrize(
    ("best", "epochs", "holds"), [(0.9, 36, True), (0.91, 71, True), (0.89, 36, False), (0.9, 72, False)]
)
def test_a_claim_holds_with_fewer_epochs_and_no_lower_best_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: float, epochs: int, holds: bool
) -> None:
    monkeypatch.setattr(tune.KEPT, "file", tmp_path / "tune.json")
    assert tune.rows() == []
    tune.KEPT.file.write_text(json.dumps({"seed 0": pair(0.9, 18), "seed 1": pair(best, epochs)}))
    saved, lost = tune.rows()
    assert "10 of 16 trials ended early" in saved["claim"]
    assert saved["holds"] is holds
    assert saved["interval"] == [round(1 - epochs / 72, 4), 0.75]
    assert lost["interval"] == pytest.approx(sorted([0, 0.9 - best]), abs=1e-4)
