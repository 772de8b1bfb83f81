import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from etl.lake.facts import Fingerprint, LedgerFacts
from etl.lake.log import Commit
from etl.lake.tables import write_table
from etl.runs.completion import fingerprint
from etl.runs.run import Run
from etl.splits.assignment import Unit, assign, divide
from etl.splits.earlier_records import splits_stay, splits_to_stay
from etl.splits.units import count_units
from etl.stages.split import split
from schemas.config import Configuration
from schemas.settings import Split
from schemas.tables import SPLITS, Layout, clusters_schema, ledger_schema, spark_schema
from tests.etl import documents

SHARES = st.sampled_from(
    [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.0, 0.1), (0.7, 0.3, 0.0), (1.0, 0.0, 0.0)]
)


def units_of(sizes: Sequence[int], label: str) -> list[Unit]:
    return [Unit(f"{label}/{i}", rows, (i * 7919) % 1009) for i, rows in enumerate(sizes)]


@given(SHARES, st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_classes_of_single_rows_are_divided_exactly_but_for_rounding(
    shares: tuple[float, float, float], sizes: list[int]
) -> None:
    large: dict[str | None, list[Unit]] = {
        f"c{i}": units_of([1] * size, f"c{i}") for i, size in enumerate(sizes)
    }
    settings = Split(train=shares[0], validation=shares[1], test=shares[2])
    chosen, cuts = divide({f"c{i}": size for i, size in enumerate(sizes)}, large, settings)
    assert cuts == []
    assert len(chosen) == sum(sizes)
    for units in large.values():
        found = Counter(chosen[unit.name] for unit in units)
        for name, share in zip(SPLITS, shares, strict=True):
            assert abs(found[name] - share * len(units)) <= 2
            assert share > 0 or found[name] == 0
    # The remainder of a class is passed on, so that the whole is no worse than a class.
    found = Counter(chosen.values())
    assert all(abs(found[name] - share * sum(sizes)) <= 3 for name, share in zip(SPLITS, shares, strict=True))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(0, 500))
def test_large_units_are_made_up_for_by_the_others(sizes: list[int], small: int) -> None:
    total = sum(sizes) + small
    chosen, cuts = divide({"c": total}, {"c": units_of(sizes, "c")}, Split())
    rows = Counter[str]()
    for unit in units_of(sizes, "c"):
        rows[chosen[unit.name]] += unit.rows
    assert len(cuts) == (small > 0)
    for cut in cuts:
        assert sum(cut.shares) == pytest.approx(1)
        for name, share in zip(SPLITS, cut.shares, strict=True):
            rows[name] += share * small  # type: ignore[assignment]
    assert sum(rows.values()) == pytest.approx(total)
    for name, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert abs(rows[name] - share * total) <= max(sizes) + 1


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (1, [1, 0, 0]),
        (3, [3, 0, 0]),
        (4, [3, 1, 0]),
        (5, [4, 1, 0]),
        (6, [5, 1, 0]),
        (7, [5, 1, 1]),
        (10, [8, 1, 1]),
        (20, [16, 2, 2]),
    ],
)
@pytest.mark.parametrize("classes", [1, 2, 20])
def test_few_records_come_as_near_to_the_shares_as_whole_records_can(
    records: int, expected: list[int], classes: int
) -> None:
    of_class = [records // classes + (place < records % classes) for place in range(classes)]
    large: dict[str | None, list[Unit]] = {
        f"c{place}": units_of([1] * rows, f"c{place}") for place, rows in enumerate(of_class) if rows
    }
    chosen, cuts = divide({label: len(units) for label, units in large.items()}, large, Split())
    assert [Counter(chosen.values())[split] for split in SPLITS] == expected
    assert cuts == []


def test_the_largest_group_is_trained_on_and_the_others_judge() -> None:
    units = units_of([279, *[1] * 21], "c")
    chosen, _ = divide({"c": 300}, {"c": units}, Split())
    assert chosen[units[0].name] == "train"
    assert [Counter(chosen.values())[split] for split in SPLITS] == [1, 11, 10]


def test_many_small_classes_do_not_all_fall_to_training() -> None:
    totals: dict[str | None, int] = {f"c{i:04d}": 3 for i in range(1_000)}
    large = {label: units_of([1, 1, 1], str(label)) for label in totals}
    chosen, _ = divide(totals, large, Split())
    assert Counter(chosen.values()) == {"train": 2400, "validation": 300, "test": 300}


ROWS = (
    [(f"s{i}", "common", 1) for i in range(6_000)]
    + [(f"g{i}", "grouped", 1 + i * i % 17) for i in range(700)]
    + [(f"n{i}", None, 1) for i in range(5)]
    + [("giant", "common", 900), ("alone", "rare", 1)]
)


def assigned(
    spark: SparkSession, rows: Sequence[tuple[str, str | None, int]], seed: int = 0, on_driver: int = 10**6
) -> dict[str, str]:
    schema = "unit string, label string, rows long"
    units = spark.createDataFrame(rows, schema).withColumn("order", F.xxhash64(F.lit(seed), "unit"))
    found = assign(units, Split(seed=seed), on_driver).collect()
    assert len(found) == len(rows)
    return {row["unit"]: row["split"] for row in found}


def test_classes_keep_their_proportions_in_every_split(spark: SparkSession) -> None:
    found = assigned(spark, ROWS)
    rows: dict[str | None, Counter[str]] = defaultdict(Counter)
    for unit, label, size in ROWS:
        rows[label][found[unit]] += size
    whole = {label: sum(counts.values()) for label, counts in rows.items()}
    for label in ("common", "grouped"):
        for name, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
            assert rows[label][name] / whole[label] == pytest.approx(share, abs=0.002)
    assert rows[None] == {"train": 4, "validation": 1} or rows[None]["train"] == 4
    assert rows["rare"].total() == 1


def test_the_assignment_depends_on_the_units_and_the_seed_alone(spark: SparkSession) -> None:
    found = assigned(spark, ROWS)
    shuffled = list(ROWS)
    random.Random(1).shuffle(shuffled)
    assert assigned(spark, shuffled, on_driver=500) == found
    other = assigned(spark, ROWS, seed=1)
    moved = sum(found[unit] != other[unit] for unit in found)
    assert 0.2 < moved / len(found) < 0.5  # two independent splits differ in 1 - 0.8² - 2·0.1² = 0.34


def test_a_unit_belongs_to_the_class_of_most_of_its_rows(spark: SparkSession) -> None:
    rows = [("u", "b"), ("u", "b"), ("u", "a"), ("v", "b"), ("v", "a"), ("w", None)]
    members = spark.createDataFrame(rows, "unit string, label string")
    found = count_units(members, 0).select("unit", "label", "rows").collect()
    assert sorted(tuple(row) for row in found) == [("u", "b", 3), ("v", "a", 2), ("w", None, 1)]


def write_clusters(config: Configuration, rows: Sequence[dict[str, Any]]) -> None:
    base = dict.fromkeys(clusters_schema().names) | {"source": "a"}
    table = pa.Table.from_pylist([base | row for row in rows], schema=clusters_schema())
    write_deltalake(Layout.of(config).clusters, table, mode="overwrite")


def read_ledger(config: Configuration) -> list[dict[str, Any]]:
    rows = DeltaTable(Layout.of(config).ledger).to_pyarrow_table().sort_by("record_id").to_pylist()
    return list(rows)


def test_neither_cluster_nor_group_lies_in_two_splits(spark: SparkSession, tmp_path: Path) -> None:
    """Clusters of one to three records, with groups across them, so that chains of both arise."""
    config = documents.configuration(tmp_path, columns={"label": "kind", "group": "origin"})
    rng = random.Random(3)
    fields, clusters = [], []
    for i in range(1_200):
        name, dropped, filtered = f"r{i:04d}", i % 10 == 1, i % 10 == 2
        group = None if i % 4 == 0 else f"g{rng.randrange(500)}"
        fields.append({"record_id": name, "text": "x", "kind": rng.choice("abb"), "origin": group})
        status = "near_duplicate" if dropped else "filtered" if filtered else "kept"
        cluster = None if filtered else f"r{i // 3 * 3:04d}" if i % 5 else name
        clusters.append({"record_id": name, "status": status, "cluster_id": cluster})
    documents.write_fields(config, fields, files=3)
    write_clusters(config, clusters)
    counts = split(Run(spark, config))
    found = read_ledger(config)
    assert [{name: value for name, value in row.items() if name != "split"} for row in found] == [
        {**row, "source": "a", "reason": None} for row in clusters
    ]
    assert counts == {name: sum(row["split"] == name for row in found) for name in SPLITS}
    assert min(counts.values()) > 0
    assert sum(counts.values()) == sum(row["status"] == "kept" for row in clusters)
    groups = {row["record_id"]: row["origin"] for row in fields}
    kept = [row for row in found if row["status"] == "kept"]
    edges = [(("cluster", row["cluster_id"]), row["record_id"]) for row in kept]
    edges += [
        (("group", groups[row["record_id"]]), row["record_id"]) for row in kept if groups[row["record_id"]]
    ]
    items = list({item for edge in edges for item in edge})
    place = {row["record_id"]: row["split"] for row in kept}
    units = [{place[one] for one in unit if one in place} for unit in documents.partition(items, edges)]
    assert len(units) > 100
    assert all(len(unit) == 1 for unit in units)

    assert split(Run(spark, config)) == counts
    assert read_ledger(config) == found


def test_splits_that_are_noted_to_stay_do_so_and_others_come_to_the_shares_beside_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = documents.configuration(tmp_path, columns={"group": "origin"})
    names = [f"r{i:03d}" for i in range(300)]
    fields = [{"record_id": r, "text": "x", "origin": f"g{i % 200}"} for i, r in enumerate(names)]
    documents.write_fields(config, fields)
    # The first half was in the test split, more than belongs there; a third of the others is in their groups.
    had = {name: "test" if i < 150 else None for i, name in enumerate(names)}

    write_clusters(config, [{"record_id": r, "status": "kept", "cluster_id": r} for r in names])

    def split_again(facts: LedgerFacts, config: Configuration = config) -> dict[str, str]:
        rows = [(name, "a", "kept", None, name, split) for name, split in had.items()]
        frame = spark.createDataFrame(rows, spark_schema(ledger_schema()))
        write_table(frame, Layout.of(config).ledger, ledger_schema(), config, facts)
        split(Run(spark, config))
        return {row["record_id"]: row["split"] for row in read_ledger(config)}

    noted = LedgerFacts.by("forget", config, fingerprint("split", config, fields="f@1"), conflicts=0)
    found = split_again(noted)
    groups = {i % 200 for i in range(150)}
    assert {found[name] for i, name in enumerate(names) if i % 200 in groups} == {"test"}
    # Beside them, the training split lacks most.
    assert {found[name] for i, name in enumerate(names) if i % 200 not in groups} == {"train"}
    # `deduplicate` is still to run: until then they stay.
    ledger = Commit.existing(Layout.of(config).ledger, config.storage).facts(LedgerFacts)
    assert ledger is not None
    assert splits_stay(ledger, config)
    # Splits made by other settings, or in a full run, do not count.
    reseeded = config.model_copy(update={"split": Split(seed=7)})
    of_others = split_again(noted, reseeded)
    assert abs(Counter(of_others.values())["test"] - 30) <= 2
    anew = config.model_copy(update={"increments": config.increments.model_copy(update={"enabled": False})})
    assert not splits_stay(noted, anew)
    assert not splits_stay(noted.model_copy(update={"stage": "split"}), config)


def test_splits_stay_after_an_erasure_but_for_records_in_conflict_with_several() -> None:
    made_from = Fingerprint(configuration="d", code="c", inputs={"fields": "f@1"})
    facts = LedgerFacts(stage="split", configuration_sha256="s", fingerprint=made_from, conflicts=0)
    staying = splits_to_stay(facts)
    assert staying == facts.model_copy(update={"stage": "forget"})
    assert splits_to_stay(staying) == staying
    assert splits_to_stay(facts.model_copy(update={"conflicts": 1})) is None
    assert splits_to_stay(None) is None


def test_without_labels_and_groups_rows_are_divided_exactly(spark: SparkSession, tmp_path: Path) -> None:
    config = documents.configuration(tmp_path, split={"train": 0.9, "validation": 0.0, "test": 0.1})
    names = [f"r{i}" for i in range(1_000)]
    documents.write_fields(config, [{"record_id": name, "text": "x"} for name in names])
    write_clusters(config, [{"record_id": name, "status": "kept", "cluster_id": name} for name in names])
    assert split(Run(spark, config)) == {"train": 900, "validation": 0, "test": 100}
