"""Every quality gate passes on healthy data, and fails on data made to fail it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import QualityGateError
from common.storage import Storage
from etl.figures.facts import Lengths, ShardFacts, Summary, TokenFacts
from etl.gates import data_docs
from etl.gates.judgement import judge
from etl.gates.limits import check_quarantine, gates
from etl.gates.results import GateResults
from schemas.tables import Layout
from tests.etl.example_summary import FULL, example_summary
from tests.etl.example_tables import configuration

CUT = {"tokens": {"train": TokenFacts(Lengths(6400, 1000, 900, {3: 6400}), 128, 601, 10)}}
PART = ShardFacts(800, [512, 288], 1)
UNEQUAL = {"train": 6200, "validation": 1000, "test": 800}
UNEQUAL_SHARDS = {
    "train": [FULL] * 5 + [ShardFacts(1080, [512, 512, 56], 1)],
    "validation": [ShardFacts(1000, [512, 488], 1)],
    "test": [PART],
}

# By gate: changes to healthy data, the settings under [quality], and what the sentence must say.
FAILING: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "share in the quarantine": (
        {"quarantined_by_reason": {"invalid_json": 600}, "exact_duplicates": 0},
        {},
        r"6\.00% of the records read \(600 of 10,000\) are in the quarantine, allowed: at most 5\.00%.*"
        r"python -m etl\.quarantine --config FILE` shows the rest; .*raise quality\.max_quarantine_share",
    ),
    "share filtered out by cleaning rules": (
        {},
        {"max_filtered_share": 0.009},
        r"1\.00% .* allowed: at most 0\.90%",
    ),
    "share exact or near-duplicates": ({}, {"max_duplicate_share": 0.17}, r"18\.00% .* \(1,800 of 10,000\)"),
    "share copies or near-copies of records with another label": (
        {"label_conflicts": 300},
        {"max_label_conflict_share": 0.02},
        r"3\.00% .* \(300 of 10,000\) .* allowed: at most 2\.00% \(quality\.max_label_conflict_share\)",
    ),
    "rows published": ({}, {"min_published": 8001}, r"8,000 rows left .* at least 8,001"),
    "every record accounted for": ({"near_duplicates": 1299}, {}, r"1 of 10,000 records read have no end"),
    "every row has a label": ({"unlabelled": 3}, {}, r"3 published rows have no label"),
    "share of each split": (
        {"published": UNEQUAL, "encoded": UNEQUAL, "shards": UNEQUAL_SHARDS, "class_groups": {}},
        {},
        r"train has 77\.50% .* instead of 80\.00%, the split validation has 12\.50% .* allowed: .* 2\.00%",
    ),
    "share of each class": (
        {
            "classes": {"train": {"notice": 4800, "text": 1600}, "validation": {"notice": 600, "text": 200}}
            | {"test": {"notice": 609, "text": 191}}
        },
        {},
        r"the class 'notice' is 76\.12% of the split test but 75\.11% of all rows",
    ),
    "training shards of equal size": (
        {
            "shards": {
                "train": [FULL] * 4 + [ShardFacts(512, [512], 1), ShardFacts(1792, [512] * 3 + [256], 1)]
            }
            | {"validation": [PART], "test": [PART]}
        },
        {},
        r"the row counts of the train shards differ by 1,280, allowed: at most one row group of 512 rows",
    ),
    "row groups exactly full": (
        {
            "shards": {"train": [ShardFacts(1280, [512, 256, 512], 1), *[FULL] * 5]}
            | {"validation": [PART], "test": [PART]}
        },
        {},
        r"1 row groups of the split train, its last left aside, do not have 512 rows",
    ),
    "every row in one shard": (
        {"encoded": {"train": 6400, "validation": 799, "test": 800}},
        {},
        r"the split validation has 800 published records, 799 encoded and 800 in shards",
    ),
    "tokens cut off": (
        {"tokens": CUT},
        {"max_cut_share": 0.6},
        r"cut off 60\.10% of the tokens of the feature 'tokens'",
    ),
}


def judged(root: Path, summary: Summary, **quality: Any) -> GateResults:
    config = configuration(root, quality=quality)
    return judge(summary, config, Layout.of(config))


def test_healthy_data_pass_every_gate(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    results = judge(example_summary(), config, Layout.of(config))
    assert [gate.name for gate in results.gates if not gate.passed] == []
    assert results.passed
    results.raise_for_failures()
    observed = {gate.name: gate.observed for gate in results.gates}
    assert observed["share in the quarantine"] == "1.00%"
    assert observed["rows published"] == "8,000"
    assert observed["training shards of equal size"] == "256"
    assert observed["tokens cut off"] == "25.00%"


def test_there_is_a_failing_case_for_every_gate(tmp_path: Path) -> None:
    assert [gate.name for gate in gates(configuration(tmp_path), 512)] == list(FAILING)


@pytest.mark.parametrize("name", FAILING)
def test_a_gate_fails_on_data_that_break_it(name: str, tmp_path: Path) -> None:
    changes, quality, sentence = FAILING[name]
    results = judged(tmp_path, example_summary(**changes), **quality)
    assert [gate.name for gate in results.gates if not gate.passed] == [name]
    with pytest.raises(QualityGateError) as raised:
        results.raise_for_failures()
    assert re.search(sentence, str(raised.value))
    assert raised.value.exit_status == 3


def test_small_data_sets_are_not_judged_by_the_shares_of_their_splits(tmp_path: Path) -> None:
    few = {"train": 500, "validation": 400, "test": 99}
    results = judged(tmp_path, example_summary(published=few, class_groups={"notice": 499}))
    passed = {gate.name: gate for gate in results.gates}
    assert passed["share of each split"].passed
    assert passed["share of each class"].observed == "nothing to judge"


def test_data_docs_load_nothing_and_their_links_lead_somewhere(tmp_path: Path) -> None:
    results = judged(tmp_path, example_summary(unlabelled=3))
    assert not Path(results.data_docs).exists()  # it is written with the report
    left = Path(results.data_docs).with_name("left.html")
    left.parent.mkdir(parents=True)
    left.touch()
    assert data_docs.write(results.validations, "small", str(left.parent), Storage()) == results.data_docs
    pages = {page: page.read_text(encoding="utf-8") for page in left.parent.rglob("*.html")}
    assert Path(results.data_docs) in pages
    assert left not in pages  # from an earlier attempt
    assert len(pages) >= 5  # the index, and expectations and a validation for several tables
    text = "\n".join(pages.values())
    assert "every row has a label" in text
    assert "fa-times" in text
    assert "<script" not in text
    assert "//" not in text.replace("</", "")
    for page, content in pages.items():
        for target in re.findall(r'''href="([^"#]+)"''', content):
            assert (page.parent / target).resolve() in pages


def test_the_library_is_imported_by_no_module_but_where_gates_are_judged() -> None:
    # It takes seconds, which a pipeline spends while Spark writes shards.
    code = "import sys, etl.versions.building; print('great_expectations' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_quarantine_is_checked_right_after_ingest(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    check_quarantine({"records_in": 100, "quarantined": 5}, config)
    check_quarantine({"records_in": 0, "quarantined": 0}, config)
    check_quarantine({"records_in": 100, "quarantined": 9, "forgotten": 4}, config)
    with pytest.raises(QualityGateError, match=r"after ingest: 6\.00% of the records read \(6 of 100\)"):
        check_quarantine({"records_in": 100, "quarantined": 6}, config)
    sizes = {"records_in": 200, "quarantined": 1, "lines": 2000, "quarantined_lines": 90, "bytes": 10_000}
    check_quarantine({**sizes, "quarantined_bytes": 500}, config)
    with pytest.raises(
        QualityGateError, match=r"7\.00% of the bytes read \(700 of 10,000\) are in the quarantine"
    ):
        check_quarantine({**sizes, "quarantined_bytes": 700}, config)
    with pytest.raises(
        QualityGateError, match=r"90\.05% of the lines read \(1,801 of 2,000\) are in the quarantine"
    ):
        check_quarantine({**sizes, "quarantined_lines": 1801, "quarantined_bytes": 700}, config)
