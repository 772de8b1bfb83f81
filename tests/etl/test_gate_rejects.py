"""Sentences of the gates that fail on rejected records."""

from collections.abc import Sequence
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from common.errors import QualityGateError
from etl.gates.limits import check_quarantine
from etl.gates.rejects import commonest, explained
from etl.gates.results import FILTERED, GateResult
from etl.lake.tombstones import FORGOTTEN
from schemas.config import Configuration, load
from schemas.tables import Layout
from tests.etl.sources.source_files import write_toml

ROWS = [
    ("invalid_json", "b.jsonl", 7, "not JSON at character 0"),
    ("invalid_json", "a.jsonl", 120, "not JSON at character 9"),
    ("invalid_json", "a.jsonl", 30, "not JSON at character 3"),
    ("missing_column", "a.jsonl", 5, "the column 'label' is missing"),
    ("missing_column", "a.jsonl", 10, "the column 'label' is missing"),
    ("missing_column", "a.jsonl", 0, "the column 'text' is missing"),
    ("empty_value", "c\n.jsonl", 3, "the column 'text' is empty"),
    ("empty_value", "d.jsonl", 3, "the column 'text' is empty"),
    ("too_deep", "a.jsonl", 90, "nested deeper than 400 levels"),
    *[(FORGOTTEN, "a.jsonl", 500, "erased")] * 9,
]


@pytest.fixture
def config(tmp_path: Path) -> Configuration:
    file = write_toml(tmp_path / "my conf.toml", str(tmp_path / "warehouse"))
    return load(file, ["storage.fsspec={ secret = 'x' }", "quality.max_quarantine_share=0.1"])


def write(uri: str, names: list[str], rows: Sequence[tuple[object, ...]]) -> None:
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    deltalake.write_deltalake(uri, pa.table(columns), mode="append")


def test_the_gate_after_ingest_names_the_commonest_reasons_and_what_shows_the_rest(
    config: Configuration, tmp_path: Path
) -> None:
    names = ["reason", "source_path", "source_position", "detail"]
    uri = Layout.of(config).quarantine
    write(uri, names, [*ROWS[6:]])
    write(uri, names, [*ROWS[:6]])
    with pytest.raises(QualityGateError) as raised:
        check_quarantine({"records_in": 40, "quarantined": 9}, config)
    assert str(raised.value) == (
        "a quality gate failed after ingest: 22.50% of the records read (9 of 40) are in the quarantine, allowed: at "
        "most 10.00% (quality.max_quarantine_share): 3 invalid_json (a.jsonl at 30: not JSON at character 3), "
        "2 empty_value (c\\n.jsonl at 3: the column 'text' is empty), 2 missing_column (a.jsonl at 5: the column "
        f"'label' is missing); `python -m etl.quarantine --config '{tmp_path}/my conf.toml' --set storage.fsspec=... "
        "--set quality.max_quarantine_share=0.1` shows the rest; mend the records or the configuration, or raise "
        "quality.max_quarantine_share"
    )


def test_the_gate_of_filtered_records_names_the_commonest_rules(config: Configuration) -> None:
    rows = [
        (None, "a.jsonl", 0),
        ("length", "a.jsonl", 9),
        ("language", "b.jsonl", 0),
        ("length", "a.jsonl", 4),
    ]
    write(Layout.of(config).fields, ["filtered_by", "source_path", "source_position"], rows)
    gate = GateResult(FILTERED, "75.00%", "at most 50.00%", False, ["75.00% are"], "look at the rules")
    told = explained(gate, config)
    assert told.remedy.startswith(
        "2 length (a.jsonl at 4), 1 language (b.jsonl at 0); `python -m etl.quarantine --config"
    )
    assert " --filtered` shows the rest; " in told.remedy
    assert told.remedy.endswith("look at the rules")


def test_other_gates_stay_as_they_are(config: Configuration) -> None:
    passed = GateResult(FILTERED, "1.00%", "at most 50.00%", True, [], "look at the rules")
    other = GateResult("rows published", "0", "at least 1", False, ["0 rows are left"], "see the funnel")
    assert explained(passed, config) is passed
    assert explained(other, config) is other


def test_a_gate_without_a_table_says_how_to_look(config: Configuration) -> None:
    with pytest.raises(QualityGateError, match=r"share\): `python -m etl\.quarantine --config"):
        check_quarantine({"records_in": 40, "quarantined": 8}, config)


def test_no_reason_is_no_sentence() -> None:
    assert commonest(iter(()), str) == ""
