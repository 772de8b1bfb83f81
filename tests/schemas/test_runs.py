"""Which data a run has learned from."""

from pathlib import Path

import pytest

from common.errors import DataError
from schemas.runs import roots_of


def test_a_line_that_is_being_written_counts_for_nothing_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    chain = tmp_path / "checkpoints" / "chain.jsonl"
    chain.parent.mkdir()
    (tmp_path / "run.json").write_text('{\n "manifest_root": "b"\n}\n')
    chain.write_text('{"manifest_root": "a"}\n{"manif')
    assert roots_of(tmp_path) == {"a", "b"}
    for damage in ("7\n", "{}\n", "no json\n"):
        chain.write_text('{"manifest_root": "a"}\n' + damage)
        with pytest.raises(DataError, match=r"chain\.jsonl cannot be read .* is not known"):
            roots_of(tmp_path)
