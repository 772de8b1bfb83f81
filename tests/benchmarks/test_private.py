"""Table of private training: claims from the cells that were measured."""

import json
from pathlib import Path

import pytest

from benchmarks.methods import private


def test_cells_become_claims_and_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "FILE", tmp_path / "private.json")
    assert private.rows() == []
    seconds = {"1": 6.0, "inf": 2.0}

    def measure(case: private.Case, budget: str) -> dict[str, object]:
        assert case is private.CASES["digits"]
        return {"accuracy": 0.5, "interval": [0.4, 0.6], "seconds_a_step": seconds[budget], "privacy": None}

    monkeypatch.setattr(private, "measure", measure)
    private.measured(["digits"], ["1", "inf"], again=False)
    monkeypatch.setattr(private, "measure", lambda *_: pytest.fail("measured again"))
    private.measured(["digits"], ["1", "inf"], again=False)
    assert json.loads((tmp_path / "private.json").read_bytes())["digits"].keys() == {"1", "inf"}
    first, second, third = private.rows()
    assert (first["measured"], first["interval"], first["claimed"], first["holds"]) == (
        0.5,
        [0.4, 0.6],
        None,
        None,
    )
    assert "without privacy" in second["claim"]
    assert (third["measured"], third["holds"]) == (3.0, True)
    assert third["command"].endswith("--only digits --budgets 1 3 8 inf")
