"""Distance of a version from the one before it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from scipy.spatial.distance import jensenshannon

from common import storage
from common.errors import DataError
from common.pages.page import Table, Text
from etl.figures import vocabulary
from etl.figures.drift import (
    EarlierProfile,
    Profile,
    drifts,
    jensen_shannon,
    keep_profile,
    population_stability,
    profile_before,
    with_drifts,
)
from etl.figures.facts import Lengths
from etl.figures.vocabulary import word_counts
from etl.gates.judgement import judge
from etl.reporting.drift import compared
from etl.spark.sampled_words import share_of, words_of
from schemas.config import Configuration
from schemas.manifest import Manifest, name_of
from schemas.tables import Layout
from tests.etl.example_summary import example_summary
from tests.etl.example_tables import configuration
from tests.schemas.test_manifest import content, provenance

BEFORE = example_summary(words={"the": 50, "of": 30, "licence": 20})


def test_the_index_of_population_stability() -> None:
    before, now = {"a": 599, "b": 399}, {"a": 299, "b": 699}
    # With half a record added to each of two categories the shares are .6 and .4, then .3 and .7 (within a thousandth).
    expected = (0.3 - 0.6) * math.log(0.3 / 0.6) + (0.7 - 0.4) * math.log(0.7 / 0.4)
    found = population_stability(before, now)
    assert found is not None
    assert abs(found - expected) < 2e-3
    assert population_stability(now, before) == pytest.approx(found)
    assert population_stability(before, before) == 0
    assert population_stability({"a": 10, "b": 10}, {"a": 10_000, "b": 10_000}) == pytest.approx(0)
    gone = population_stability({"a": 1000, "b": 1000}, {"a": 2000})
    assert gone is not None
    assert 1 < gone < 10
    assert population_stability({}, before) is None
    assert population_stability(before, {"a": 0}) is None


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"a": 5, "b": 5}, {"a": 1, "b": 9}),
        ({"a": 5, "b": 5}, {"a": 5, "c": 15}),
        ({"a": 1}, {"b": 1}),
        ({"a": 3}, {"a": 300}),
    ],
)
def test_the_divergence_is_that_of_another_library(before: Mapping[str, int], now: Mapping[str, int]) -> None:
    names = sorted(before.keys() | now.keys())
    distance = jensenshannon([before.get(n, 0) for n in names], [now.get(n, 0) for n in names], base=2)
    assert jensen_shannon(before, now) == pytest.approx(float(distance) ** 2, abs=1e-12)
    assert jensen_shannon(before, {}) is None


def test_each_measure_moves_with_what_it_is_about_alone() -> None:
    profile = Profile.of(BEFORE)
    assert {drift.measure: drift.value for drift in drifts(profile, profile)} == {
        "classes": 0,
        "lengths": 0,
        "vocabulary": 0,
        "outcomes": 0,
    }
    other = {split: {"notice": 100, "text": 700} for split in ("train", "validation", "test")}
    longer = {"text": {"read": Lengths(), "published": Lengths(8000, 1, 1, {12: 8000})}}
    for changes, moved in (
        ({"classes": other}, "classes"),
        ({"characters": longer}, "lengths"),
        ({"words": {"the": 50, "of": 30, "new": 20}}, "vocabulary"),
        ({"near_duplicates": 3000}, "outcomes"),
        ({"quarantined_by_reason": {"invalid_json": 900, "missing_column": 40}}, "outcomes"),
    ):
        found = drifts(profile, Profile.of(replace(BEFORE, **changes)))
        assert {drift.measure for drift in found if drift.value > 0} == {moved}
    # Erasure on request is not drift.
    erased = {"invalid_json": 60, "missing_column": 40, "forgotten": 500}
    assert all(
        d.value == 0 for d in drifts(profile, Profile.of(replace(BEFORE, quarantined_by_reason=erased)))
    )


def manifest_of(version: int, dataset: str = "d") -> Manifest:
    return Manifest.seal(content(dataset=dataset), provenance(), version, "d")


def publish(config: Configuration, manifest: Manifest) -> None:
    name = name_of(manifest.delta_version, manifest.manifest_root)
    storage.write_bytes(storage.join(Layout.of(config).manifests, name), manifest.to_json())


def test_the_version_before_is_the_newest_with_another_content(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    assert profile_before(config, None) is None
    first, second, again = manifest_of(0), manifest_of(1, "other"), manifest_of(2, "other")
    for manifest in (first, second, again):
        publish(config, manifest)
    assert profile_before(config, None) is None  # it was published before versions kept a profile
    keep_profile(BEFORE, first, config)
    keep_profile(replace(BEFORE, near_duplicates=7), second, config)
    assert profile_before(config, first) is None
    assert profile_before(config, second) == EarlierProfile(0, Profile.of(BEFORE))
    assert profile_before(config, again) == EarlierProfile(0, Profile.of(BEFORE))
    newest = profile_before(config, None)
    assert newest is not None
    assert (newest.version, newest.profile.outcomes["near-duplicate"]) == (2, 7)
    for path in Path(Layout.of(config).quality, "profiles").iterdir():
        path.write_text("{}")
    with pytest.raises(DataError, match=r"profiles/.*json is damaged: remove it"):
        profile_before(config, second)


def limited(tmp_path: Path, **limits: float) -> Configuration:
    config = configuration(tmp_path)
    return config.model_copy(update={"quality": config.quality.model_copy(update=limits)})


def test_a_limit_stops_a_publication_that_moved_too_far(tmp_path: Path) -> None:
    moved = replace(BEFORE, near_duplicates=1200, records_in=9_900, words={"x": 1})
    now = with_drifts(moved, EarlierProfile(3, Profile.of(BEFORE)))
    for limits, failed in (
        ({}, []),
        ({"max_outcome_drift": 0.5, "max_class_drift": 0.0}, []),
        ({"max_outcome_drift": 0.0}, ["drift of the drop rates"]),
        ({"max_vocabulary_drift": 0.9}, ["drift of the vocabulary"]),
    ):
        config = limited(tmp_path, **limits)
        gates = judge(now, config, Layout.of(config)).gates
        assert [gate.name for gate in gates if not gate.passed] == failed
        assert len([gate for gate in gates if gate.name.startswith("drift")]) == len(limits)
    (vocabulary_gate,) = (gate for gate in gates if gate.name == "drift of the vocabulary")
    assert vocabulary_gate.failures == ["the mix of words is 1.000 from that of the version before"]
    # With nothing to compare there is nothing to judge.
    first = judge(BEFORE, limited(tmp_path, max_outcome_drift=0.0), Layout.of(config)).gates
    assert [(g.observed, g.passed) for g in first if g.name.startswith("drift")] == [
        ("nothing to judge", True)
    ]


def test_the_report_tells_what_moved(tmp_path: Path) -> None:
    config = limited(tmp_path, max_vocabulary_drift=0.01)
    now = Profile.of(replace(BEFORE, near_duplicates=3300, words={"the": 50, "of": 30, "new": 20}))
    section = compared(EarlierProfile(3, Profile.of(BEFORE)), now, config)
    tables = [block for block in section.blocks if isinstance(block, Table)]
    measured, outcomes, words = ([[cell.text for cell in row] for row in table.cells] for table in tables)
    assert [row[3] for row in measured] == ["stable", "stable", "above the limit", "moderate shift"]
    assert ["near-duplicate", "1,300", "13.0%", "3,300", "27.5%"] in outcomes
    assert [row[:3] for row in words] == [["licence", "20.0%", "0.0%"], ["new", "0.0%", "20.0%"]]
    assert compared(None, now, config).blocks == [
        Text("There is no version before this one, or nothing is kept of it that could be compared.", "quiet")
    ]


def test_words_are_counted_once_a_published_record(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[tuple[str, list[str] | None, str | None]]
    texts = ["The the QUICK 650253 fox_x"] * 7 + ["rare words"] * 2
    rows = [(f"{n}", words_of([text]), "train") for n, text in enumerate(texts)]
    rows += [("dropped", ["quick", "the"], None), ("not sampled", None, "train")]
    fields = spark.createDataFrame([row[:2] for row in rows], "record_id string, sampled_words array<string>")
    ledger = spark.createDataFrame([(row[0], row[2]) for row in rows], "record_id string, split string")
    everything = word_counts(fields, ledger, 1.0)
    assert everything == {"fox": 7, "quick": 7, "the": 7, "x": 7}
    monkeypatch.setattr(vocabulary, "FEWEST_RECORDS", 1)
    sampled = word_counts(fields, ledger, 0.5)
    assert 0 < sum(sampled.values()) < sum(everything.values())
    assert word_counts(fields.repartition(3), ledger, 0.5) == sampled


@pytest.mark.parametrize(
    ("characters", "records", "share"),
    [(0, 0, 1.0), (40_000_000, 10, 1.0), (40_000_000, 50_000, 0.5), (10**12, 10_000_000, 0.0005)],
)
def test_so_many_records_are_sampled_that_their_words_say_something(
    characters: int, records: int, share: float
) -> None:
    assert share_of(characters, records) == pytest.approx(share)
