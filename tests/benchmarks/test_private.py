"""Table of private training: claims from the cells that were measured."""

from pathlib import Path

import pytest

from benchmarks.methods import private


def test_cells_become_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private.KEPT, "file", tmp_path / "private.json")
    assert private.rows() == []

    def measure(case: private.Case, budget: str) -> dict[str, object]:
        assert case is private.CASES["digits"]
        return {"accuracy": 0.5, "interval": [0.4, 0.6], "privacy": None}

    monkeypatch.setattr(private, "measure", measure)
    monkeypatch.setattr(private, "factors", lambda _: [2.0, 3.0, 7.0])
    assert private.main(["--only", "digits/1", "digits/inf", "digits/factors"]) == 0
    first, second, third = private.rows()
    assert (first["measured"], first["interval"], first["claimed"], first["holds"]) == (
        0.5,
        [0.4, 0.6],
        None,
        None,
    )
    assert "without privacy" in second["claim"]
    assert (third["measured"], third["interval"], third["holds"]) == (3.0, [2.0, 7.0], True)
    assert third["command"].endswith("--only digits/factors")
