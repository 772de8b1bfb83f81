"""What the data-quality report begins with, and how it shows what rules did; from figures alone."""

from pathlib import Path

import pytest

from common.pages.page import Page, Points, ReportSection, Table, Text, render
from etl.figures.drift import EarlierProfile, Profile
from etl.figures.facts import Lengths, RuleEffect, SourceFacts, TokenFacts
from etl.gates.limits import gates
from etl.gates.results import GateResult, GateResults
from etl.reporting import records, splits
from etl.reporting.attention import TITLE, attention
from etl.reporting.examples import Example
from etl.reporting.page import report_page
from etl.runs.stage_metrics import Shuffle, StageMetrics
from tests.etl.example_summary import example_summary
from tests.etl.example_tables import configuration

CONFIG = configuration(Path("unused"))
GOOD = GateResult("g", "5", "at least 1", True, [], "")
BAD = GateResult("g", "7.00%", "at most 5.00%", False, ["7.00% are bad"], "look at them")


def said(section: ReportSection) -> list[str]:
    (block,) = section.blocks
    if isinstance(block, Points):
        return [text.text for text in block.texts]
    assert isinstance(block, Text)
    return [block.text]


def html_of(section: ReportSection) -> str:
    return render(Page("", "", [], [section]))


def test_nothing_to_look_at_is_said() -> None:
    section = attention(example_summary(), CONFIG, GateResults([GOOD], "x"))
    assert section.blocks == [Text("Nothing: 1 gate passed, and nothing else stands out.", "good")]


def test_the_report_begins_with_it() -> None:
    page = report_page(example_summary(), CONFIG, None, GateResults([BAD], "x"), [], [], {}, [])
    assert page.sections[0].title == TITLE
    assert page.sections[1].title == "Funnel"


def test_everything_that_stands_out_is_there_failed_gates_first() -> None:
    keeps = {"50": 230, "90": 1_520, "99": 6_400}
    tokens = {"text": {"train": TokenFacts(Lengths(10, 1000, 900), 128, 639, 3, keeps)}}
    summary = example_summary(
        records_in=10_002,
        published={"train": 6450, "validation": 800, "test": 0},
        tokens=tokens,
        sources=[SourceFacts(0, "in/*", "jsonl", 2, 1, 5, 10_000, 100)],
    )
    before = EarlierProfile(3, Profile.of(example_summary(classes={"train": {"notice": 1, "text": 6399}})))
    uneven = Shuffle(tasks=8, records=80_000, median_records=9_000, largest_records=30_000)
    stage = StageMetrics(
        stage="split", shuffles=[uneven], read_bytes=1, written_bytes=1, spilled_bytes=0, salted_keys=0
    )
    found = said(
        attention(summary, CONFIG, GateResults([GOOD, BAD], "x"), [("a", 0.9), ("b", 0.1)], [stage], before)
    )
    assert found[:4] == [
        "Gate failed: 7.00% are bad, allowed: at most 5.00%: look at them.",
        "Leakage: 1 of 2 sampled test rows has a near-copy in the training split.",
        "752 records not accounted for.",
        "1 file could not be read: see the quarantine.",
    ]
    assert "The test split has no rows: no model can be judged on it." in found
    assert (
        "Much of the texts is cut away: in the feature `text`, length 128 keeps 36.1% of the tokens; it takes 230 to "
        "keep 50%, 1,520 for 90%, 6,400 for 99%."
    ) in found
    assert any(one.startswith("A large shift since the version before: classes of the") for one in found)
    assert found[-1] == "Uneven work in `split`: a task read 3.3 times the median's records."


def test_lengths_tell_what_would_keep_more() -> None:
    keeps = {"50": 230, "90": 1_520, "99": 6_400}
    tokens = {"text": {"train": TokenFacts(Lengths(10, 1000, 900, {6: 10}), 128, 639, 3, keeps)}}
    last = splits.lengths(example_summary(tokens=tokens)).blocks[-1]
    assert isinstance(last, Text)
    assert last.text.startswith(
        "In the training split of `text`, length 128 keeps 36.1% of the tokens; it takes 230"
    )


def test_shares_of_splits_are_those_of_the_published_rows_everywhere() -> None:
    summary = example_summary()
    (funnel,) = (block for block in records.funnel(summary).blocks if isinstance(block, Table))
    balance = splits.balance(summary, CONFIG).blocks[0]
    assert isinstance(balance, Table)
    shares = [cells[3] for cells in funnel.cells if cells[0].text.startswith("of these")]
    assert [cell.text for cell in shares] == [cells[2].text for cells in balance.cells]
    assert {cell.note for cell in shares} == {"of published"}


def test_one_file_is_one_file() -> None:
    one = SourceFacts(0, "in/a.csv", "csv", 1, 0, 40, 10_000, 100)
    tiles = records.tiles(example_summary(sources=[one]), GateResults([GOOD], "x"))
    assert tiles[0].note == "from 1 file"


def test_rules_that_did_nothing_are_one_line() -> None:
    section = records.rules(example_summary(effects={"length": RuleEffect(100, 100)}), CONFIG, [])
    table, idle = section.blocks
    assert isinstance(table, Table)
    assert isinstance(idle, Text)
    assert [cells[0].text for cells in table.cells] == ["length"]
    assert "rules found nothing to do: `" in idle.text
    assert "`length`" not in idle.text
    assert "<code>white_space</code>" in html_of(section)


@pytest.mark.parametrize(
    ("before", "after", "shown_before", "shown_after"),
    [
        ("an end ", "an end", "an end<mark>·</mark>", "an end<mark></mark>"),
        ("a  b", "a b", "a <mark>·</mark>b", "a <mark></mark>b"),
        (
            "x <b>yes</b>",
            "x yes",
            "x <mark>&lt;b&gt;</mark>yes<mark>&lt;/b&gt;</mark>",
            "x <mark></mark>yes<mark></mark>",
        ),
        ("ab cd…", "b cd ef…", "<mark>a</mark>b cd…", "<mark></mark>b cd ef…"),
        ("caf\u0065\u0301", "caf\u00e9", "caf<mark>e[U+0301]</mark>", "caf<mark>\u00e9</mark>"),
    ],
)
def test_what_a_rule_changed_is_marked(before: str, after: str, shown_before: str, shown_after: str) -> None:
    html = html_of(records.rules(example_summary(), CONFIG, [Example("white_space", "r", before, after)]))
    assert f'<td class="code">{shown_before}</td>' in html
    assert f'<td class="code">{shown_after}</td>' in html


def test_masks_are_marked() -> None:
    example = Example("emails", "r", "", "to <email> or <email>", sign="<email>")
    html = html_of(records.rules(example_summary(), CONFIG, [example]))
    assert "to <mark>&lt;email&gt;</mark> or <mark>&lt;email&gt;</mark>" in html


def test_a_gate_without_a_limit_says_so() -> None:
    (gate,) = (gate for gate in gates(CONFIG, 512) if gate.name == "tokens cut off")
    assert gate.allowed == "no limit is set (quality.max_cut_share)"
