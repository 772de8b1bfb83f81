"""Distributions of typed columns, their distance from the version before, and correlations."""

import math

import numpy as np
import pytest

from common.pages.page import Chart
from etl.figures.columns import OTHERS, correlation, of_names, of_numbers, rebinned, shares_before_and_now
from etl.figures.drift import EarlierProfile, Profile, column_drift, drifts
from etl.figures.facts import Summary
from etl.reporting.columns import distributions
from etl.rules.personal_data import Mask
from schemas.cleaning import Clean
from tests.etl.example_summary import example_summary


def test_numbers_are_counted_in_bins_and_extremes_in_the_outermost() -> None:
    values = np.concatenate([np.arange(1000.0), [-1e9, 1e9, math.nan]])
    found = of_numbers(values)
    assert (found.rows, found.missing, sum(found.counts)) == (1003, 1, 1002)
    assert found.edges[0] == pytest.approx(10, abs=1)
    assert found.edges[-1] == pytest.approx(989, abs=1)
    assert max(found.counts) < 60


def test_a_column_of_one_value_or_none_has_a_distribution_too() -> None:
    one = of_numbers(np.array([7.0, 7.0]))
    assert (one.edges[0], one.edges[-1], sum(one.counts)) == (6.5, 7.5, 2)
    none = of_numbers(np.array([math.nan]))
    assert (none.rows, none.missing, none.edges, none.counts) == (1, 1, [], [])
    nearly = of_numbers(np.array([0.0] * 500 + [9.0]))
    assert nearly.counts[0] == 500
    assert nearly.counts[-1] == 1


def test_the_most_frequent_names_are_counted_and_the_others_together() -> None:
    values = [*(f"n{k}" for k in range(20) for _ in range(20 - k)), None]
    found = of_names(values)
    assert (found.names[0], found.counts[0], found.missing) == ("n0", 20, 1)
    assert found.names[-1] == OTHERS
    assert sum(found.counts) == 210


def test_names_that_may_tell_of_a_person_are_not_shown() -> None:
    values = ["anna@example.org"] * 6 + ["ben@example.org"] * 5 + ["Chur"] * 5 + ["Erika Muster"] * 4
    found = of_names(values, Mask(Clean()))
    assert dict(zip(found.names, found.counts, strict=True)) == {"<email>": 11, "Chur": 5, OTHERS: 4}


def test_bins_are_carried_over_to_other_edges() -> None:
    found = of_numbers(np.linspace(0, 100, 5001))
    again = rebinned(found, [0.0, 25.0, 50.0, 100.0])
    assert sum(again) == pytest.approx(5001)
    assert again == pytest.approx([1250, 1250, 2500], rel=0.02)
    # What lies beyond the other edges is in their outermost bins.
    assert rebinned(found, [40.0, 50.0, 60.0]) == pytest.approx([2500, 2500], rel=0.02)


def test_ranks_correlate_whatever_the_scale() -> None:
    x = np.arange(100.0)
    found = correlation({"x": x, "cubed": x**3, "falling": -x, "same": np.zeros(100)})
    assert found is not None
    assert found.values[0] == [1.0, 1.0, -1.0, None]
    gaps = np.where(x % 2 == 0, x, math.nan)
    with_gaps = correlation({"x": x, "gaps": gaps})
    assert with_gaps is not None
    assert with_gaps.values[1][0] == 1.0
    assert correlation({"x": x}) is None


def summary(**columns: object) -> Summary:
    return example_summary(distributions=columns)


def test_a_column_that_moved_is_told_from_one_that_did_not() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=5000)
    towns = ["a"] * 700 + ["b"] * 300
    before = Profile.of(summary(x=of_numbers(x), y=of_numbers(x), town=of_names(towns)))
    now = summary(
        x=of_numbers(random.normal(size=5000)),
        y=of_numbers(x + 1),
        town=of_names(["a"] * 300 + ["c"] * 700),
    )
    found = column_drift(before, Profile.of(now))
    assert found["x"] < 0.05
    assert found["y"] > 0.25
    assert found["town"] > 0.25
    (told,) = [one for one in drifts(before, Profile.of(now)) if one.measure == "columns"]
    assert told.value == max(found.values())
    (section,) = distributions(now, EarlierProfile(3, before))
    captions = [block.caption for block in section.blocks if isinstance(block, Chart)]
    assert captions[0].startswith("0.0% missing; drift 0.0")
    assert "(stable)" in captions[0]
    assert "(large shift)" in captions[1]
    assert "version 3" in next(block.svg for block in section.blocks if isinstance(block, Chart))


def test_missing_values_are_a_part_of_the_distance() -> None:
    whole, gaps = (
        of_numbers(np.arange(100.0)),
        of_numbers(np.where(np.arange(100) < 50, math.nan, np.arange(100.0))),
    )
    before, now = shares_before_and_now(whole, gaps)
    assert (before["missing"], now["missing"]) == (0, 50)


def test_a_profile_without_columns_is_read() -> None:
    profile = Profile.of(summary(x=of_numbers(np.arange(10.0))))
    again = Profile.model_validate_json(profile.model_dump_json())
    assert again == profile
    document = profile.model_dump(exclude={"columns"})
    assert column_drift(Profile.model_validate(document), profile) == {}
    assert distributions(summary(), None) == []
