"""The tables of claims: cells that are measured once, and rows as all benchmarks give them."""

import importlib
import json
from pathlib import Path

import pytest

from benchmarks.methods import __main__ as methods
from benchmarks.methods.cells import HEAD, Kept, row


def test_a_cell_is_measured_once_and_kept_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, measured = Kept("some"), list[str]()
    monkeypatch.setattr(kept, "file", tmp_path / "some.json")

    def figures(cell: str) -> float:
        measured.append(cell)
        if measured.count("a") > 1:  # another process measures one meanwhile
            kept.file.write_text('{"a": 0.5, "c": 0.5, "d": 1}')
        if cell == "b":
            raise ValueError("failed")
        return 0.5

    def main(*argv: str) -> int:
        table = [row("claim", 0.4, [0.5, 0.7], kept.command, at_least=True)]
        return kept.main(argv, None, ["a", "b", "c"], figures, lambda: table)

    with pytest.raises(ValueError, match="failed"):
        main()
    assert json.loads(kept.file.read_bytes()) == {"a": 0.5}
    assert main("--only", "a", "c") == 0
    assert measured == ["a", "b", "c"]
    assert main("--only", "a", "--again") == 0
    assert set(kept.read()) == {"a", "c", "d"}
    assert measured == ["a", "b", "c", "a"]
    assert "claim  0.4  0.6  0.5–0.7  yes" in capsys.readouterr().out


@pytest.mark.parametrize("name", methods.BENCHMARKS)
def test_the_rows_that_there_are_become_a_table(name: str) -> None:
    """Nothing is measured for it."""
    rows = list(importlib.import_module(f"benchmarks.methods.{name}").rows())
    table = methods.table("Title", rows).splitlines()
    assert len(table) == 3 + len(rows)
    assert all(line.count(" | ") == len(HEAD) - 1 for line in table[1:])
    assert all(list(one) == HEAD for one in rows)
