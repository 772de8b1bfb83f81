"""The data-quality report of a hand-written data set, and its parts."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from common.pages.page import Page, Points, ReportSection, Table, Text, render
from etl.figures.facts import Cluster, RuleEffect, ShardFacts, Summary
from etl.figures.summary import summarise
from etl.gates.results import GateResult, GateResults
from etl.reporting import records, splits
from etl.reporting.examples import (
    Reason,
    example_of,
    quarantine_reasons,
    snippet,
    visible,
)
from etl.reporting.page import report_page, write_report
from etl.rules.applying import RuleSet
from etl.rules.personal_data import LONGEST, Mask, with_some_masks
from etl.rules.registry import build_rules
from etl.runs.stage_metrics import Shuffle, StageMetrics, keep
from schemas.cleaning import RegexRule
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.tables import Layout, quarantine_schema
from tests.etl.example_summary import example_summary
from tests.etl.example_tables import configuration, write_signatures, write_small_data_set
from tests.etl.images import pictures
from tests.schemas.test_class_balance import oversampled
from tests.schemas.test_manifest import content, provenance

PASSED = GateResults(
    [GateResult("rows published", "5", "at least 1", True, [], "see the funnel")], "index.html"
)
SHARDS = {
    split: [ShardFacts(rows, [rows], 100)] for split, rows in (("train", 3), ("validation", 1), ("test", 1))
}


@pytest.fixture(scope="module")
def html(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    config = configuration(tmp_path_factory.mktemp("report"))
    write_small_data_set(config)
    write_signatures(config)
    even = Shuffle(tasks=8, records=80_000, median_records=9_900, largest_records=12_870)
    sizes = {"read_bytes": 2_000, "written_bytes": 3_000_000, "spilled_bytes": 0, "salted_keys": 2}
    keep(StageMetrics(stage="split", shuffles=[even], **sizes), config)
    location = write_report(spark, config, summarise(spark, config, SHARDS), None, PASSED)
    assert location.endswith("small/quality/report.html")
    return Path(location).read_text(encoding="utf-8")


def text_of(html: str) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>|<svg.*?</svg>", "", html, flags=re.S))
    )


def test_it_is_self_contained(html: str) -> None:
    targets = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", html)
    assert [t for t in targets if not t.startswith("#")] == ["data_docs/index.html"]
    assert not re.search(r"@import|<link|<script|<img|url\((?!#)", html)


def test_it_is_light_and_dark_and_fits_a_phone(html: str) -> None:
    assert re.search(r'<meta name="?viewport"? content="width=device-width', html)
    assert "@media (prefers-color-scheme: dark)" in html
    # A wide table scrolls by itself and does not widen the page.
    assert html.count("<table") == len(re.findall(r'<div class="?scroll"?[^>]*>\s*<table', html)) > 0


def test_each_rule_that_left_out_records_has_an_example_masked(html: str) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.S)
    shown = [text_of(row).split() for row in rows if "(left out)" in row]
    assert {row[0] for row in shown} == {"length", "character_ratio"}
    assert any("write to &lt;email&gt; ????" in row for row in rows)
    assert "ann@example.org" not in html


def test_it_holds_the_figures(html: str) -> None:
    text = text_of(html)
    assert "Records read 13 from 2 files" in text
    assert "Quarantined: did not meet the contract of a record − 3 10 76.9%" in text
    assert "Near-duplicates − 1 5 38.5%" in text
    assert "Every record that was read is in exactly one of these rows." in text
    assert "invalid_json 2 15.4%" in text
    assert "white_space 2 3 0" in text
    assert "notice 5 50.0% 2 40.0% 33.3% 0.0% 100.0%" in text
    assert "rows published 5 at least 1 passed" in text
    assert "No task read more than twice the records of the median one." in text
    assert "split 1 3.0 MB 2.0 kB 0 bytes 8 9,900 12,870 1.30 2" in text


def test_personal_data_and_markup_do_not_come_through(html: str) -> None:
    assert "example.org" not in html
    assert "mail &lt;email&gt; if 1 &lt; 2 &amp; so on" in re.sub("</?mark>", "", html)


def test_the_leakage_of_the_test_rows_is_told(html: str) -> None:
    # d1 shares 1 of 3 shingles with a1.
    assert "None of 1 sampled test rows has a near-copy" in text_of(html)
    assert "the highest similarity is 0.333" in text_of(html)


def test_what_the_training_split_makes_of_its_classes_is_told() -> None:
    split = oversampled()
    manifest = Manifest.seal(content(splits={"train": split}), provenance(), 4, "d")
    config = configuration(Path("unused"))

    def titles(published: Manifest | None) -> list[str]:
        page = report_page(example_summary(), config, published, PASSED, [], [], {}, [])
        return [section.title for section in page.sections]

    assert "Class balance of the training split" in titles(manifest)
    assert "Class balance of the training split" not in titles(None)


def test_small_and_lopsided_data_are_told_before_the_figures() -> None:
    config = configuration(Path("unused"))
    healthy, few = example_summary(), example_summary(published={"train": 4, "validation": 1, "test": 0})
    for summary, told in ((healthy, False), (few, True)):
        first = report_page(summary, config, None, PASSED, [], [], {}, []).sections[0]
        remarks = [text for block in first.blocks if isinstance(block, Points) for text in block.texts]
        assert (Text("The test split has no rows: no model can be judged on it.") in remarks) == told
    (rows,) = tables(splits.classes(few))
    assert all(row[-1] == "–" for row in rows)


def tables(section: ReportSection) -> list[list[list[str]]]:
    return [[[c.text for c in row] for row in b.cells] for b in section.blocks if isinstance(b, Table)]


def test_a_funnel_that_does_not_add_up_says_so() -> None:
    section = records.funnel(example_summary(records_in=10_002))
    assert Text("2 records not accounted for.", "bad") in section.blocks
    assert tables(section)[0][4] == ["Near-duplicates", "− 1,300", "8,002", "80.0%"]


def test_a_failed_gate_is_told_with_its_remedy() -> None:
    failed = GateResult("g", "7.00%", "at most 5.00%", False, ["7.00% are bad"], "look at them")
    section = records.gate_table(GateResults([failed], "x"), "data_docs/index.html")
    assert tables(section) == [[["g", "7.00%", "at most 5.00%", "failed", "7.00% are bad: look at them"]]]
    tile = records.tiles(example_summary(), GateResults([failed], "x"))[-1]
    assert (tile.value, tile.tone) == ("0 of 1", "bad")


def test_cluster_sizes_are_put_together() -> None:
    summary = example_summary(
        cluster_sizes={1: 9, 4: 2, 7: 1, 20: 1}, largest_clusters=[Cluster("c", 20, "jo@example.org")]
    )
    rows, largest = tables(records.duplicates(summary, {"jo@example.org": "its text"}, MASK))
    assert largest == [["20", "its text", "<email>"]]
    assert rows == [["1", "9", "9"], ["4–7", "3", "15"], ["16–31", "1", "20"]]


def test_leaks_are_listed() -> None:
    config = configuration(Path("unused"))
    section = splits.leakage([("a", 0.1), ("b", 0.9), ("c", 1.0)], config)
    first = section.blocks[0]
    assert isinstance(first, Text)
    assert first.tone == "bad"
    assert "2 of 3 sampled test rows" in first.text
    assert tables(section) == [[["c", "1.000"], ["b", "0.900"]]]


def test_the_similarity_of_leaks_is_that_of_the_content() -> None:
    def shown(config: Configuration) -> str:
        return render(Page("", "", [], [splits.leakage([("a", 0.5)], config)]))

    texts, images = shown(configuration(Path("unused"))), shown(pictures.configuration(Path("unused")))
    assert "Jaccard similarity of the sets of shingles, for sampled test rows." in texts
    assert "Jaccard" not in images
    assert "Correlation of thumbnails</text>" in images
    assert "near-copies from 0.993 on, by <code>deduplicate.distance</code> = 0.12), for sampled" in images


def test_a_report_is_the_same_for_the_same_figures() -> None:
    config = configuration(Path("unused"))

    def made(summary: Summary) -> str:
        return render(report_page(summary, config, None, PASSED, [], [], {}, [("a", 0.1)]))

    assert made(example_summary()) == made(example_summary())


CLEAN = configuration(Path("unused")).clean
MASK, RULES = Mask(CLEAN), build_rules(CLEAN)


def test_an_example_shows_what_its_rule_did_and_no_other() -> None:
    text = "  " + "x" * 200 + "&amp;\u200b! "
    example = example_of("control_characters", "r", [text], RULES, MASK)
    assert "&amp;[U+200B]!" in example.before
    assert "[U+200B]" not in example.after
    assert "&amp;" in example.after  # the rule for mark-up comes later
    example = example_of("white_space", "r", [text], RULES, MASK)
    assert example.before.startswith("··xxx")
    assert example.after.startswith("xxx")


def test_what_a_mask_did_is_shown_only_after_it() -> None:
    example = example_of("emails", "r", ["a b " * 60 + "jo@example.org wrote"], RULES, MASK)
    assert example.before == ""
    assert example.after.endswith("a b <email> wrote")


def test_what_a_rule_of_ones_own_replaces_is_shown_nowhere() -> None:
    own = [RegexRule(name="customers", pattern=r"K-\d+", replace="CUSTOMER")]
    clean = CLEAN.model_copy(update={"regex": own})
    rules, mask = build_rules(clean), Mask(clean)
    text = "the  order of K-4711 came"
    for rule in ("customers", "white_space"):
        example = example_of(rule, "r", [text], rules, mask)
        assert "4711" not in example.before + example.after
        assert "CUSTOMER" in example.after


def test_a_record_that_was_left_out_has_no_text_after() -> None:
    example = example_of(
        "character_ratio", "r", ["?? ann@example.org ?!?!?!?!?!?!?!?!?!?!?!?!?!?!?!?!?!?!"], RULES, MASK
    )
    assert example.after == ""
    assert example.before.startswith("?? <email> ?!")


def test_personal_data_that_only_cleaning_reveals_is_not_shown_before_it() -> None:
    example = example_of("markup", "r", ["jo&#64;example.org wrote"], RULES, MASK)
    assert (example.before, example.after) == ("", "<email> wrote")
    # Even when the masking rules are off.
    alone = build_rules(CLEAN.model_copy(update={"rules": ["markup"]}))
    assert example_of("markup", "r", ["jo&#64;example.org wrote"], alone, MASK) == example


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("control_characters", "jo&#64;example.org\u200b wrote"),
        ("unicode", "e\u0301 jo&#64;example.org wrote"),
        ("markup", "<b>ana</b> 4111\u20031111\u20031111\u20031111"),
    ],
)
def test_what_a_later_rule_reveals_is_not_shown_after_an_earlier_one(rule: str, text: str) -> None:
    example = example_of(rule, "r", [text], RULES, MASK)
    assert (example.before, example.after, example.left_out) == ("", "", False)
    shown = tables(records.rules(example_summary(), configuration(Path("unused")), [example]))[1]
    assert shown == [[rule, "(personal data: not shown)", "(personal data: not shown)"]]


def test_with_an_empty_mask_the_same_is_shown_without_it() -> None:
    clean = CLEAN.model_copy(update={"emails": CLEAN.emails.model_copy(update={"mask": ""})})
    rules, mask = build_rules(with_some_masks(clean)), Mask(clean)
    assert mask("jo@example.org wrote") == " wrote"
    example = example_of("white_space", "r", ["  jo@example.org  wrote"], rules, mask)
    assert (example.before, example.after) == ("····wrote", " wrote")
    example = example_of("markup", "r", ["jo&#64;example.org wrote"], rules, mask)
    assert (example.before, example.after) == ("", " wrote")


def test_half_an_address_of_a_text_that_a_rule_made_shorter_is_not_shown() -> None:
    text = "x" * (LONGEST - 1016) + "\u200b" * 1000 + " someone@example"
    assert len(text) == LONGEST
    example = example_of("control_characters", "r", [text], RULES, MASK)
    assert "someone" not in example.before + example.after


def test_every_kind_of_personal_data_is_masked_whatever_is_configured() -> None:
    text = "ann@example.org 650-253-0000 10.20.30.40 DE89370400440532013000 4111111111111111 390.533.447-05 536-90-4399"
    assert MASK(text) == "<email> <phone> <ip> <iban> <card> <id> <id>"
    dropped = CLEAN.model_copy(update={"cards": CLEAN.cards.model_copy(update={"action": "drop"})})
    assert Mask(dropped)(text) == MASK(text)
    example = example_of("cards", "r", [text], build_rules(dropped), Mask(dropped))
    assert (example.before, example.after) == (MASK(text), "")


def test_each_kind_of_national_numbers_is_counted_and_shown_on_its_own() -> None:
    config = configuration(Path("unused"))
    effects = {
        "national_ids.cpf": RuleEffect(2, 3),
        "national_ids.ssn": RuleEffect(4, 5),
        "emails": RuleEffect(6, 7),
    }
    rows = tables(records.rules(example_summary(effects=effects), config, []))[0]
    assert ["national_ids.cpf", "2", "3", "0"] in rows
    assert ["national_ids.ssn", "4", "5", "0"] in rows
    assert ["emails", "6", "7", "0"] in rows
    assert "national_ids" not in [row[0] for row in rows]
    left_out = example_summary(filtered_by_rule={"length": 3, "split_conflict": 2})
    rows = tables(records.rules(left_out, config, []))[0]
    assert ["split_conflict", "2", "–", "2"] in rows
    dropping = CLEAN.national_ids.model_copy(update={"action": "drop", "countries": ["BR", "US"]})
    dropping_config = config.model_copy(update={"clean": CLEAN.model_copy(update={"national_ids": dropping})})
    rules = RuleSet(dropping_config)
    _, filtered_by, noted = rules.apply(["CPF 390.533.447-05, CPF 39053344705 and SSN 536-90-4399 of theirs"])
    assert filtered_by == "national_ids"
    assert [e for e in noted if e["rule"].startswith("national")] == [  # type: ignore[attr-defined]
        {"rule": "national_ids.cpf", "count": 2},
        {"rule": "national_ids.ssn", "count": 1},
        {"rule": "national_ids", "count": 1},
    ]
    summary = example_summary(
        effects=effects | {"national_ids": RuleEffect(5, 5)}, filtered_by_rule={"national_ids": 4}
    )
    rows = tables(records.rules(summary, dropping_config, []))[0]
    assert ["national_ids.cpf", "2", "–", "0"] in rows
    assert ["national_ids", "5", "–", "4"] in rows
    wide = CLEAN.model_copy(
        update={"national_ids": CLEAN.national_ids.model_copy(update={"countries": ["BR"]})}
    )
    example = example_of("national_ids.cpf", "r", ["CPF 39053344705 e"], build_rules(wide), MASK)
    assert (example.before, example.after) == ("", "CPF <id> e")


def test_half_an_address_at_the_end_of_what_is_looked_at_is_not_shown() -> None:
    text = "x" * (LONGEST - 16) + " someone@example"
    assert "someone" not in MASK(text)
    assert "someone" in MASK(text[1:])  # nothing was cut off here


def test_signs_stand_for_what_one_would_not_see() -> None:
    assert visible("a  b\tc\n\u200b\x07é\u00a0") == "a··b⇥c↵[U+200B][U+0007]é␣"
    assert snippet("a" * 500) == "a" * 160 + "…"


def test_a_reason_about_columns_stands_once_for_each_column(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    rows = [
        ("missing_column", 9, "the column 'label' is missing"),
        ("missing_column", 7, "the column 'label' is missing; there is 'x.label'"),
        ("missing_column", 5, "the column 'text' is missing"),
        ("invalid_json", 3, "not JSON at character 0"),
        ("invalid_json", 1, "not JSON at character 9"),
    ]
    written = [
        {"source_index": 0, "source_path": "a", "source_position": at, "reason": reason, "detail": detail}
        for reason, at, detail in rows
    ]
    write_deltalake(Layout.of(config).quarantine, pa.Table.from_pylist(written, schema=quarantine_schema()))
    assert quarantine_reasons(spark, config, {}, MASK) == [
        Reason("invalid_json", 2, "not JSON at character 9", "a, at 1"),
        Reason("missing_column", 2, "the column 'label' is missing; there is 'x.label'", "a, at 7"),
        Reason("missing_column", 1, "the column 'text' is missing", "a, at 5"),
    ]


def texts_of(section: ReportSection) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Text)]


def test_lost_indentation_is_told_with_the_preset_that_keeps_it() -> None:
    config = configuration(Path("unused"))
    effects = {"white_space": RuleEffect(40, 300), "white_space.indentation": RuleEffect(7, 100)}
    section = records.rules(example_summary(effects=effects), config, [])
    rows = tables(section)[0]
    assert ["white_space", "40", "300", "0"] in rows
    assert ["white_space.indentation", "7", "100", "0"] in rows
    (said,) = [text for text in texts_of(section) if text.startswith("The indentation")]
    assert said == (
        'The indentation of 7 texts was removed. If they hold source code, `rules = "code"` in `[clean]` keeps it.'
    )
    without = records.rules(example_summary(), config, [])
    assert not [text for text in texts_of(without) if text.startswith("The indentation")]
