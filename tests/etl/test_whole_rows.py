"""A table without any text column on its way through every stage and the report, and its second version."""

import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from etl.figures.columns import OTHERS
from etl.figures.drift import profile_before
from etl.lake.tables import read_table
from etl.versions.building import run_stages
from schemas.config import Configuration, load
from schemas.manifest import Manifest
from schemas.tables import Layout

TABLE = """
[dataset]
name = "sensors"
root = "{root}/warehouse"
[[source]]
format = "csv"
path = "{root}/in/*.csv"
[columns]
id = "id"
label = "state"
[[feature]]
name = "heat"
column = "heat"
encode = "number"
scale = "robust"
missing = "median"
[[feature]]
name = "load"
column = "load"
encode = "number"
[[feature]]
name = "place"
column = "place"
encode = "category"
[deduplicate.tolerance]
heat = 0.05
[train.where]
state = "fine"
[quality]
max_split_deviation = 1.0
max_class_deviation = 1.0
"""
ROWS = 120
Built = tuple[Configuration, list[Manifest], list[str]]


def rows(first: int, warmer: float = 0.0) -> list[list[Any]]:
    """Return rows that are no copies of each other: their loads differ."""
    chance = random.Random(first)
    return [
        [
            f"r{n}",
            f"{chance.gauss(20, 3) + warmer:.2f}" if n % 10 else "",
            n,
            "ann@example.org" if n % 20 == 4 else ("north", "south")[n % 2],
            "fault" if n % 12 == 5 else "fine",
        ]
        for n in range(first, first + ROWS)
    ]


def write(file: Path, lines: list[list[Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    content = "id,heat,load,place,state\n" + "".join(",".join(map(str, line)) + "\n" for line in lines)
    file.write_text(content, encoding="utf-8")


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Publish a table with planted copies, then a second version with more, warmer rows; return the reports."""
    folder = tmp_path_factory.mktemp("sensors")
    first = rows(0)
    heat = float(first[3][1])
    planted: list[list[Any]] = [
        ["copy", f"{heat:.3f}", "3.0", " South ", "fine"],  # equal once in one notation
        ["near", f"{heat + 0.05:.2f}", 3, "south", "fine"],
        ["far", f"{heat + 0.2:.2f}", 3, "south", "fine"],
        ["elsewhere", f"{heat:.2f}", 3, "Erika Muster", "fine"],
        ["bad", "hot", 3, "south", "fine"],
    ]
    write(folder / "in" / "a.csv", first + planted)
    toml = folder / "sensors.toml"
    toml.write_text(TABLE.format(root=folder), encoding="utf-8")
    config = load(toml)
    manifests, reports = [], []
    for begun in range(2):
        if begun:
            later = rows(1000, warmer=30.0)
            write(folder / "in" / "b.csv", [*later, ["later", f"{heat:.2f}", 3, "south", "fine"]])
        manifest, report = run_stages(spark, config, 0.0, again=False)
        manifests.append(manifest)
        reports.append(Path(report).read_text(encoding="utf-8"))
    return config, manifests, reports


def test_nothing_is_lost_and_copies_are_told(spark: SparkSession, built: Built) -> None:
    config, manifests, _ = built
    counts = manifests[0].content.counts
    assert counts["records_in"] == ROWS + 5
    assert (counts["filtered"], counts["exact_duplicates"], counts["near_duplicates"]) == (1, 1, 1)
    assert counts["published"] == ROWS + 2
    ledger = {row["record_id"]: row for row in read_table(spark, Layout.of(config).ledger).collect()}
    group = {name: ledger[name]["cluster_id"] for name in ("r3", "copy", "near", "far", "elsewhere")}
    assert group["r3"] == group["copy"] == group["near"]
    assert len({group["r3"], group["far"], group["elsewhere"]}) == 3
    assert ledger["bad"]["reason"] == "heat.invalid"
    # A later copy of an earlier row belongs to its cluster.
    assert (ledger["later"]["status"], ledger["later"]["cluster_id"]) == ("exact_duplicate", group["r3"])


def test_training_takes_the_rows_that_the_condition_names(
    built: Built,
) -> None:
    train = built[1][0].splits["train"]
    assert train.balance.repeats == {"fault": 0, "fine": 1}
    assert train.epoch_rows == train.label_counts["fine"] < train.rows


def test_the_profile_names_no_person(built: Built) -> None:
    config, (_, second), _ = built
    before = profile_before(config, second)
    assert before is not None
    place = before.profile.columns["place"]
    assert dict(zip(place.names, place.counts, strict=True)) == {
        "south": 61,
        "north": 54,
        "<email>": 6,
        OTHERS: 1,
    }


def test_the_report_shows_each_column_and_how_it_moved(
    built: Built,
) -> None:
    first, second = built[2]
    for part in ("Distribution of the columns", "9.8% missing", "Correlation", "Whole rows are compared"):
        assert part in first, part
    for part in ("Cleaning rules", "Lengths", "Jaccard", "ann@example.org", "Erika", "erika"):
        assert part not in first, part
    assert "Values of the typed columns" in second
    assert "(large shift)" in second
    assert "A large shift since the version before: values of the typed columns" in second
