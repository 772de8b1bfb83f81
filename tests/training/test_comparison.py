"""Intervals, tests and verdicts against published values, and against plain loops over rows."""

import json
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from scipy import sparse

from common.errors import CheckError
from provenance.keys import record_keys
from schemas.config import load
from schemas.manifest import Manifest
from tests.training.example_evaluation import example_judgements
from tests.training.published import Published, publish
from training.classification.scores import row_results, scores
from training.comparison import assessment, statistics
from training.comparison.assessment import Comparison, RowResults, assess, p_value, signed
from training.comparison.statistics import bootstrap_p, interval, mcnemar, tail, wilson
from training.comparison.units import UnknownUnits, connected, units_of
from training.evaluation import judging
from training.objectives import differences_table

Labels = npt.NDArray[np.int64]
CLASSES = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (1, 7, 0.0391),  # Bentur et al. 2009, in Fagerland, Lydersen and Laake 2013, table 2
        (7, 1, 0.0391),
        (4, 4, 1.0),
        (0, 0, 1.0),
        (0, 5, 0.03125),
    ],
)
def test_mcnemar_has_the_published_mid_p_values(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p, abs=5e-5)


def test_mcnemar_is_the_sum_of_its_binomial_tail() -> None:
    # Approval of a prime minister in two surveys: 86 and 150 changed their minds (Agresti 1990, table 10.1).
    whole, fewer = 236, 86
    exact = 2 * sum(Fraction(comb(whole, k), 2**whole) for k in range(fewer + 1))
    assert mcnemar(86, 150) == pytest.approx(float(exact - Fraction(comb(whole, fewer), 2**whole)), rel=1e-9)
    assert mcnemar(49_000, 51_000) == pytest.approx(2.5e-10, rel=0.1)


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_has_the_published_intervals(right: int, rows: int, low: float, high: float) -> None:
    # Newcombe, *Statistics in Medicine* 17, 1998, table I, method 3.
    assert wilson(right, rows) == pytest.approx((low, high), abs=5e-5)


def test_intervals_of_few_units_are_wider() -> None:
    # Hesterberg 2015: t of 4 and of 9 degrees of freedom times sqrt(n / (n - 1)), as a normal tail.
    assert tail(5) == pytest.approx(0.00096, abs=1e-5)
    assert tail(10) == pytest.approx(0.00855, abs=1e-4)
    assert tail(100_000) == pytest.approx(0.025, abs=1e-5)
    drawn = np.linspace(-1, 1, 2001)
    assert interval(drawn, 100_000) == pytest.approx([-0.95, 0.95], abs=1e-3)
    assert interval(drawn, 1).tolist() == [-1, 1]


def test_the_p_value_belongs_to_the_interval() -> None:
    for units in (5, 30, 10_000):
        share = tail(units)
        for beyond, shown in ((0.5 * share, True), (2 * share, False)):
            drawn = np.where(np.arange(20_000) < beyond * 20_000, -1.0, 1.0)
            assert (bootstrap_p(drawn, units) < 0.05) is shown
            assert bool(interval(drawn, units)[0] > 0) is shown


def keys_of(rows: int) -> npt.NDArray[np.uint64]:
    return record_keys(f"row {row}" for row in range(rows))


def results(labels: Labels, predicted: Labels) -> RowResults:
    return row_results(keys_of(len(labels)), labels, predicted, len(CLASSES))


def drawn_rows(rows: int, right: float, seed: int, labels: Labels | None = None) -> tuple[Labels, Labels]:
    random = np.random.default_rng(seed)
    if labels is None:
        labels = random.choice(3, rows, p=[0.6, 0.3, 0.1])
    return labels, np.where(random.random(rows) < right, labels, random.choice(3, rows))


def test_each_replicate_has_the_figures_of_its_rows() -> None:
    labels, predicted = drawn_rows(300, 0.7, 1)
    found = results(labels, predicted)
    sums = np.asarray(found.parts.T @ np.bincount(found.outcomes))
    expected = scores(labels, predicted, CLASSES)
    figures = found.figures(sums[None])
    for name in ("accuracy", "macro_f1", "macro_precision", "macro_recall"):
        assert figures[name].tolist() == pytest.approx([getattr(expected, name)])
    assert figures["f1"][0].tolist() == pytest.approx([one.f1 for one in expected.classes])


def test_intervals_are_those_of_resampled_rows() -> None:
    labels, first = drawn_rows(400, 0.8, 1)
    _, second = drawn_rows(400, 0.7, 2, labels)
    found = assess([results(labels, first), results(labels, second)])
    random, differences = np.random.default_rng(9), []
    for _ in range(1000):
        rows = random.integers(0, 400, 400)
        one, other = (scores(labels[rows], taken[rows], CLASSES) for taken in (first, second))
        differences.append(one.macro_f1 - other.macro_f1)
    macro_f1 = found.comparisons[0].figures["macro_f1"]
    assert macro_f1.interval == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.012)
    assert macro_f1.test == "paired bootstrap"
    right = int((labels == first).sum())
    assert found.intervals[0]["accuracy"] == pytest.approx(wilson(right, 400))


def test_the_verdicts() -> None:
    labels, near = drawn_rows(500, 0.8, 1)
    _, other = drawn_rows(500, 0.8, 2, labels)
    _, worse = drawn_rows(500, 0.5, 3, labels)
    model, level, behind = results(labels, near), results(labels, other), results(labels, worse)
    found = assess([model, level, behind]).comparisons
    assert {one.verdict for one in found[0].figures.values()} == {"no difference"}
    assert {one.verdict for one in found[1].figures.values()} == {"ahead"}
    assert {one.verdict for one in assess([behind, model]).comparisons[0].figures.values()} == {"behind"}
    assert found[0].figures["accuracy"].test == "McNemar"
    assert (
        found[0].figures["accuracy"].told.startswith("no difference that these rows can show (McNemar, p 0.")
    )
    assert found[1].figures["macro_f1"].told == "ahead (paired bootstrap, p 0.001)"


def test_a_lead_of_four_rows_is_none() -> None:
    labels = np.arange(60) % 3
    for wrong, verdict in ((4, "no difference"), (8, "ahead")):
        other = np.where(np.arange(60) < wrong, (labels + 1) % 3, labels)
        found = assess([results(labels, labels), results(labels, other)])
        assert {one.verdict for one in found.comparisons[0].figures.values()} == {verdict}
        assert found.comparisons[0].differing == wrong
        assert (
            found.intervals[0]["macro_f1"] is None
        )  # every replicate is 1, which says nothing about other rows
        assert found.intervals[0]["accuracy"] == pytest.approx(wilson(60, 60))


def test_equal_models_do_not_differ() -> None:
    labels, predicted = drawn_rows(50, 0.8, 1)
    found = assess([results(labels, predicted)] * 2).comparisons[0]
    assert [(one.difference, one.interval, one.p) for one in found.figures.values()] == [(0, None, 1)] * 4


def test_a_difference_that_is_the_same_on_every_draw_is_not_tested() -> None:
    labels = np.zeros(20, np.int64)
    right, wrong = results(labels, labels), results(labels, labels + 1)
    found = assess([right, wrong], np.arange(20)).comparisons[0].figures["accuracy"]
    assert (found.difference, found.interval, found.verdict, found.told) == (1, None, *["not tested"] * 2)


def test_errors_are_better_when_lower() -> None:
    random = np.random.default_rng(0)

    def errors(mean: float) -> RowResults:
        values = random.normal(mean, 0.1, 100)
        parts = sparse.csr_matrix(np.stack([np.ones(100), values], axis=1))
        return RowResults(
            keys_of(100),
            np.arange(100),
            parts,
            lambda sums: {"error": sums[:, 1] / sums[:, 0]},
            lower_is_better=frozenset({"error"}),
        )

    found = assess([errors(0.3), errors(0.5)])
    one = found.comparisons[0].figures["error"]
    assert one.verdict == "ahead"
    # The mean of 100 values with deviations of 0.1 in each of the two.
    assert one.interval == pytest.approx((one.difference - 0.028, one.difference + 0.028), abs=0.006)


def test_figures_that_are_undefined_on_some_draw_are_not_compared() -> None:
    def ratio(values: list[float]) -> RowResults:
        parts = sparse.csr_matrix(np.stack([np.ones(3), values], axis=1))
        return RowResults(
            keys_of(3),
            np.arange(3),
            parts,
            # Where the row with the only value was not drawn, it is 1 / 0.
            lambda sums: {"mean": sums[:, 1] / sums[:, 0], "inverse": np.divide(*sums.T)},
        )

    with np.errstate(divide="ignore"):
        found = assess([ratio([0, 0, 1]), ratio([0, 1, 0])])
    assert list(found.comparisons[0].figures) == ["mean"]
    assert found.intervals[0]["mean"] is not None
    assert found.intervals[0]["inverse"] is None


def test_rows_of_one_group_count_as_one() -> None:
    # Forty texts of one author, whom one model knows, are not forty observations.
    labels, group = np.zeros(200, np.int64), np.arange(200) // 40
    first = np.where(group < 4, 0, 1)
    second = np.where(group < 1, 0, 1)
    model, baseline = results(labels, first), results(labels, second)
    alone = assess([model, baseline]).comparisons[0]
    grouped = assess([model, baseline], group).comparisons[0]
    assert (alone.unit, alone.units, alone.differing) == ("row", 200, 120)
    assert (grouped.unit, grouped.units, grouped.differing) == ("group", 5, 3)
    assert alone.figures["accuracy"].verdict == "ahead"
    assert grouped.figures["accuracy"].verdict == "no difference"
    assert grouped.figures["accuracy"].test == "paired bootstrap"
    assert grouped.figures["accuracy"].difference == alone.figures["accuracy"].difference


def test_the_order_of_the_rows_decides_nothing() -> None:
    labels, first = drawn_rows(120, 0.8, 1)
    _, second = drawn_rows(120, 0.6, 2, labels)
    keys, group = keys_of(120), np.arange(120) // 3
    moved, again = (np.random.default_rng(seed).permutation(120) for seed in (3, 4))
    for units in (None, group):
        straight = assess([row_results(keys, labels, taken, 3) for taken in (first, second)], units)
        mixed = assess(
            [
                row_results(keys[order], labels[order], taken[order], 3)
                for order, taken in ((moved, first), (again, second))
            ],
            None if units is None else units[moved],
        )
        assert mixed == straight


def test_other_rows_are_refused() -> None:
    labels, predicted = drawn_rows(20, 0.8, 1)
    other = row_results(keys_of(21)[1:], labels, predicted, 3)
    with pytest.raises(CheckError, match="not judged on the same rows"):
        assess([results(labels, predicted), other])


def test_a_comparison_survives_json_and_is_told_in_a_terminal() -> None:
    labels, first = drawn_rows(400, 0.8, 1)
    _, second = drawn_rows(400, 0.6, 2, labels)
    found = assess([results(labels, first), results(labels, second)]).comparisons[0]
    again = Comparison.read(json.loads(json.dumps(found.as_json())))
    assert again is not None
    assert again.figures == found.figures
    assert again.by_value == found.by_value
    assert Comparison.read(None) is None
    table = differences_table("linear", found).splitlines()
    one = found.figures["accuracy"]
    assert one.interval is not None
    assert table[0] == "model less linear: difference, 95% interval, and whether 400 rows can show it"
    assert table[1].split() == [
        "accuracy",
        signed(one.difference),
        signed(one.interval[0]),
        "to",
        signed(one.interval[1]),
        *one.told.split(),
    ]
    assert len(again.by_value["f1"]) == 3


def test_figures_have_signs_and_p_values_their_digits() -> None:
    assert [signed(value) for value in (0.0123, -0.0123, 0.0004, -0.0004)] == [
        "+0.012",
        "−0.012",
        "±0.000",
        "±0.000",
    ]
    assert [signed(value) for value in (-251_465.219, 6_208.83)] == ["−251,465", "+6,208.8"]
    assert [p_value(p) for p in (0.00001, 0.0123, 0.314)] == ["< 0.001", "0.012", "0.31"]


def test_figures_of_too_many_values_have_no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, first = drawn_rows(100, 0.8, 1)
    _, second = drawn_rows(100, 0.6, 2, labels)
    monkeypatch.setattr(assessment, "MOST_PARTS", 2)
    (found,) = assess([results(labels, first), results(labels, second)]).comparisons
    assert found.by_value == {}
    assert set(found.figures) == {"accuracy", "macro_f1", "macro_precision", "macro_recall"}


def test_many_classes_and_rows_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, first = drawn_rows(200, 0.8, 1)
    whole = assess([results(labels, first)])
    monkeypatch.setattr(statistics, "CELLS", 1000)
    assert assess([results(labels, first)]) == whole


def test_rows_are_connected_by_any_common_value() -> None:
    clusters = ["c1", "c1", "c2", "c3", "c4"]
    groups = [None, "g1", "g1", "g2", None]
    one, two, three, four, five = connected([clusters, groups])
    assert one == two == three
    assert len({one, four, five}) == 3


def with_silver(published: Published, ledger: pa.Table, fields: pa.Table, group: str | None) -> Manifest:
    manifest = published.load()
    for name, table in (("ledger", ledger), ("fields", fields)):
        write_deltalake(f"{manifest.dataset_uri}/silver/{name}", table)
    configuration = {**manifest.content.configuration}
    configuration["columns"] = {**configuration["columns"], "group": group}
    content = manifest.content.model_copy(update={"configuration": configuration})
    provenance = manifest.provenance.model_copy(update={"silver_versions": {"ledger": 0, "fields": 0}})
    return Manifest.seal(content, provenance, 0, manifest.dataset_uri)


def test_units_come_from_the_tables_of_the_version(tmp_path: Path) -> None:
    published = publish(tmp_path)
    ids = [f"test-0-{row}" for row in range(20)]
    keys = record_keys(ids)
    ledger = pa.table({"record_id": ids[::-1], "cluster_id": ids[::-1], "split": ["test"] * 20})
    fields = pa.table({"record_id": ids, "author": [f"author {row // 5}" for row in range(20)]})
    storage = load(published.config).storage
    grouped = with_silver(published, ledger, fields, "author")
    found = units_of(grouped, "test", keys, storage)
    assert found is not None
    assert [len(set(found[row : row + 5])) for row in (0, 5, 10, 15)] == [1] * 4
    assert len(set(found)) == 4
    alone = grouped.model_copy(
        update={
            "content": grouped.content.model_copy(
                update={"configuration": published.load().content.configuration}
            )
        }
    )
    assert units_of(alone, "test", keys, storage) is None
    for file in (tmp_path / "synthetic" / "silver" / "fields").glob("*.parquet"):
        file.unlink()
    with pytest.raises(UnknownUnits):
        units_of(grouped, "test", keys, storage)


def test_where_silver_is_gone_the_comparison_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = publish(tmp_path)
    manifest = published.load()
    provenance = manifest.provenance.model_copy(update={"silver_versions": {"ledger": 0}})
    config, (model, baseline) = load(published.config), example_judgements(3, 30)
    gone = Manifest.seal(manifest.content, provenance, 0, manifest.dataset_uri)
    (found,) = judging.compared(model, {"linear": baseline}, gone, config, "test")[1].values()
    assert found.comparison is not None
    assert found.comparison.groups_known is False
    assert Comparison.read(found.comparison.as_json()) == found.comparison
    assert "30 rows, taken as independent, can show it" in differences_table("linear", found.comparison)
    assert "rows of one group count as independent" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize("groups", [None, 12])
def test_of_equal_models_few_are_told_apart(monkeypatch: pytest.MonkeyPatch, groups: int | None) -> None:
    monkeypatch.setattr(statistics, "REPLICATES", 500)
    random, told = np.random.default_rng(0), {"accuracy": 0, "macro_f1": 0}
    for _ in range(200):
        labels = random.choice(3, 300, p=[0.6, 0.3, 0.1])
        unit = None if groups is None else random.integers(0, groups, 300)
        # Each group has its own difficulty for each model.
        right = 0.7 + (np.zeros((2, 1)) if groups is None else random.normal(0, 0.2, (2, groups)))
        where = np.zeros(300, np.int64) if unit is None else unit
        models = [
            np.where(random.random(300) < np.clip(right[i, where], 0, 1), labels, random.choice(3, 300))
            for i in range(2)
        ]
        found = assess([results(labels, taken) for taken in models], unit).comparisons[0].figures
        for name in told:
            told[name] += found[name].verdict != "no difference"
    # 5% of 200 are 10; more than 21 would come by chance in one of 3,000 tries.
    assert max(told.values()) <= 21
