"""Typed columns on their way from the sources to the shards."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import Row, SparkSession

from common.errors import ConfigurationError
from etl.lake.outcomes import final_ledger, rows_to_publish
from etl.lake.tables import read_table
from etl.runs.run import Run
from etl.versions.building import STAGES, run_stages
from schemas.config import Configuration, load
from schemas.manifest import Manifest, read_artifact
from schemas.tables import Layout

HEAD = """
[dataset]
name = "example"
root = "{root}/warehouse"
[[source]]
format = "jsonl"
path = "{root}/*.jsonl"
[[source]]
format = "csv"
path = "{root}/*.csv"
[columns]
id = "id"
[[feature]]
name = "tokens"
column = "text"
vocabulary = 300
length = 8
[quality]
max_split_deviation = 1.0
"""
FEATURES = """
[[feature]]
name = "price"
column = "price"
encode = "number"
decimal = "comma"
missing = "median"
mark_missing = true
outliers = {{ rule = "limits", high = 1000.0, action = "{action}" }}
[[feature]]
name = "day"
column = "day"
encode = "date"
formats = ["iso", "%d.%m.%Y"]
missing = "constant"
fill = 0.0
invalid = "missing"
[[feature]]
name = "sold"
column = "sold"
encode = "boolean"
[[feature]]
name = "colour"
column = "colour"
encode = "category"
spellings = {{ grey = ["gray"] }}
[[feature]]
name = "weight"
column = "weight"
encode = "number"
missing = "mean"
outliers = {{ rule = "iqr", action = "clip" }}
scale = "standard"
"""


def configured(folder: Path, action: str = "drop", more: str = "") -> Configuration:
    file = folder / "conf.toml"
    file.write_text(HEAD.format(root=folder) + FEATURES.format(action=action) + more)
    return load(file)


def write_files(folder: Path) -> None:
    """Write 40 records of JSON and 4 of CSV."""
    lines: list[dict[str, Any]] = [
        {
            "id": f"j{n}",
            "text": f"thing {n} of {n * n}, which is {n * 31}",
            "price": n + 0.5 if n % 2 else f"{n},5",
            "day": "2024-03-01" if n % 2 else "01.03.2024",
            "sold": n % 3 == 0,
            "colour": ["Red", " gray", "GREY"][n % 3],
            "weight": (n * 37) % 41 / 4,
        }
        for n in range(40)
    ]
    for n in (2, 11, 13, 17, 20, 23, 26, 29):  # not all of them are in one split
        lines[n]["weight"] = 1e6 * (-1) ** n * n
    for n in (3, 5):  # 5 is left out after the fit
        del lines[n]["weight"]
    lines[5]["price"] = 99_999
    lines[6] = {key: value for key, value in lines[6].items() if key != "price"}
    lines[7]["day"] = "31.02.2024"
    lines[8]["sold"] = None
    lines[9]["sold"] = "perhaps"
    lines[10]["price"] = [1]
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "b.csv").write_text(
        "id,text,price,day,sold,colour\n"
        'c0,a text in a table,"1.000,0",2024-03-02,yes,blue\n'
        "c1,one more of these,,,NO,\n"
        "c2,and a third text,12,2024-03-02,1,red\n"
        "c3,a fourth one here,n/a,2024-03-02,0,red\n"
    )


def values(
    spark: SparkSession, config: Configuration, manifest: Manifest, name: str
) -> dict[str, list[float]]:
    """Return the values of a feature by record id, as training decodes them."""
    (column,) = (column for column in manifest.content.columns if column.name == name)
    uris = [manifest.shard_uri(shard) for content in manifest.splits.values() for shard in content.shards]
    dtype = np.dtype(column.dtype).newbyteorder("<")
    return {
        row["record_id"]: np.frombuffer(row[name], dtype).tolist()
        for row in spark.read.parquet(*uris).select("record_id", name).collect()
    }


def outcomes(spark: SparkSession, config: Configuration) -> list[Row]:
    """Return the ledger with the outliers that are left out."""
    layout = Layout.of(config)
    return final_ledger(read_table(spark, layout.ledger), read_table(spark, layout.encoded)).collect()


def test_typed_columns_go_from_the_sources_to_the_shards(spark: SparkSession, tmp_path: Path) -> None:
    write_files(tmp_path)
    config = configured(tmp_path)
    manifest, report = run_stages(spark, config, 0.0, again=False)
    layout = Layout.of(config)
    ledger = {row["record_id"]: row for row in outcomes(spark, config)}
    reasons = {name: row["reason"] for name, row in ledger.items() if row["status"] == "filtered"}
    assert reasons == {"j5": "price.outlier", "j8": "sold.missing", "j9": "sold.invalid"}
    assert ledger["j5"]["split"] is None
    counts = manifest.content.counts
    assert (counts["quarantined"], counts["filtered"]) == (1, 3)  # a list is not a single value
    fields = {row["record_id"]: row for row in read_table(spark, layout.fields).collect()}
    assert [fields[name]["price"] for name in ("j1", "j2", "c0", "c1", "c3")] == [
        "1.5",
        "2.5",
        "1000",
        None,
        None,
    ]
    assert {fields[f"j{n}"]["day"] for n in range(7)} == {"2024-03-01"}
    assert [fields[name]["colour"] for name in ("j0", "j1", "j2", "c1")] == ["red", "grey", "grey", None]

    price, day = values(spark, config, manifest, "price"), values(spark, config, manifest, "day")
    assert set(price) == set(fields) - set(reasons)
    (column,) = (column for column in manifest.content.columns if column.name == "price")
    learned = json.loads(read_artifact(manifest, column.artifacts["statistics"]))
    assert (learned["high"], learned["action"], column.shape) == (1000, "drop", [2])
    # It learned from the training split alone, without the outlier.
    in_train = [name for name, row in ledger.items() if row["split"] == "train"]
    known = sorted(float(fields[name]["price"]) for name in in_train if fields[name]["price"] is not None)
    assert learned["fill"] == pytest.approx(np.median(known))
    assert price["j6"] == [pytest.approx(learned["fill"]), 1]
    assert price["j1"] == [1.5, 0]
    assert day["j7"] == day["c1"] == [0]
    assert day["j0"] == [19783]
    assert {tuple(v) for v in values(spark, config, manifest, "sold").values()} == {(0,), (1,)}
    served_like_serving_would(fields, in_train, manifest, values(spark, config, manifest, "weight"))
    colours = values(spark, config, manifest, "colour")
    assert colours["j1"] == colours["j2"]
    assert colours["c1"] == [0]
    text = Path(report).read_text()
    assert "Typed columns" in text

    # Once more there is nothing to do; another rule for outliers affects `encode` alone.
    assert all(stage.completion(Run(spark, config)) is not None for stage in STAGES)
    marking = configured(tmp_path, "mark")
    assert [stage.name for stage in STAGES if stage.completion(Run(spark, marking)) is None] == ["encode"]


def served_like_serving_would(
    fields: dict[str, Any], in_train: list[str], manifest: Manifest, weight: dict[str, list[float]]
) -> None:
    """Check that the stored statistics give every row of every split, as docs/columns.md describes them."""
    (column,) = (column for column in manifest.content.columns if column.name == "weight")
    stored = json.loads(read_artifact(manifest, column.artifacts["statistics"]))
    taught = [float(fields[name]["weight"]) for name in in_train if fields[name]["weight"] is not None]
    q1, _, q3 = statistics.quantiles(taught, n=4, method="inclusive")
    low, high = stored["low"], stored["high"]
    assert (low, high) == (pytest.approx(q1 - 1.5 * (q3 - q1)), pytest.approx(q3 + 1.5 * (q3 - q1)))
    clipped = [min(max(x, low), high) for x in taught]
    assert clipped != taught
    assert stored["offset"] == stored["fill"] == pytest.approx(statistics.fmean(clipped))
    assert stored["divisor"] == pytest.approx(statistics.pstdev(clipped))
    assert stored["outliers"] == sum(x != y for x, y in zip(taught, clipped, strict=True))
    for name, shard_value in weight.items():
        given = fields[name]["weight"]
        x = stored["fill"] if given is None else min(max(float(given), low), high)
        assert shard_value == [pytest.approx((x - stored["offset"]) / stored["divisor"], rel=1e-6, abs=1e-6)]
    beyond = {name for name in weight if abs(float(fields[name]["weight"] or 0)) > 1e5}
    assert len(beyond) == 8
    assert beyond - set(in_train)


@pytest.mark.thorough
def test_other_rules_for_outliers_give_what_a_run_from_the_beginning_gives(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_files(tmp_path)
    config = configured(tmp_path)
    manifest, _ = run_stages(spark, config, 0.0, again=False)
    marking = configured(tmp_path, "mark")
    marked, _ = run_stages(spark, marking, 0.0, again=False)
    assert marked.content.counts["filtered"] == 2
    assert values(spark, marking, marked, "price")["j5"] == [99_999, 0, 1]
    back, _ = run_stages(spark, config, 0.0, again=False)
    assert back.manifest_root == manifest.manifest_root
    # Another split begins from all records, not from those left by the first one's outliers.
    other = marking.model_copy(update={"split": marking.split.model_copy(update={"seed": 5})})
    resplit, _ = run_stages(spark, other, 0.0, again=False)
    afresh = other.model_copy(
        update={"dataset": other.dataset.model_copy(update={"root": f"{tmp_path}/other"})}
    )
    assert run_stages(spark, afresh, 0.0, again=False)[0].manifest_root == resplit.manifest_root


@pytest.mark.thorough
def test_where_outliers_are_left_out_new_files_move_no_record(spark: SparkSession, tmp_path: Path) -> None:
    write_files(tmp_path)
    config = configured(tmp_path)

    def splits() -> dict[str, str | None]:
        run_stages(spark, config, 0.0, again=False)
        return {row["record_id"]: row["split"] for row in outcomes(spark, config)}

    before = splits()
    more = [
        {"id": f"m{n}", "text": f"another thing {n * 77}", "price": n, "day": "2024-03-01", "sold": True}
        for n in range(8)
    ]
    more[3]["price"] = 50_000
    lines = [json.dumps({**line, "colour": "red"}) + "\n" for line in more]
    (tmp_path / "more.jsonl").write_text("".join(lines))
    after = splits()
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {f"m{n}" for n in range(8)}
    assert [name for name in sorted(after.keys() - before.keys()) if after[name] is None] == ["m3"]
    encoded = rows_to_publish(read_table(spark, Layout.of(config).encoded)).collect()
    assert {row["record_id"] for row in encoded} == {
        name for name, split in after.items() if split is not None
    }


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('[[feature]]\nname = "x"\ncolumn = "text"\nencode = "number"\n', "also the feature 'tokens'"),
        ('[[feature]]\nname = "x"\ncolumn = "id"\nencode = "number"\n', "is also id"),
        (
            '[[feature]]\nname = "x"\ncolumn = "y"\nencode = "numbers"\n',
            r"wrong value of 'feature\.6\.encode'",
        ),
        (
            '[[feature]]\nname = "x"\ncolumn = "y"\nencode = "number"\nfil = 1\n',
            r"unknown key 'feature\.6\.fil'",
        ),
        (
            '[[feature]]\nname = "x"\ncolumn = "y"\nencode = "number"\noutliers = { rule = "iqr", low = 1.0 }\n',
            "takes a factor, neither low nor high",
        ),
        (
            '[[feature]]\nname = "x"\ncolumn = "y"\nencode = "boolean"\ntrue = ["A"]\nfalse = ["a"]\n',
            "'a' stands for true as well as for false",
        ),
        (
            '[[feature]]\nname = "x"\ncolumn = "y"\nencode = "category"\nspellings = { a = ["B"], b = [] }\n',
            "stands for 'a' as well as for 'b'",
        ),
        ('[[feature]]\nname = "x"\ncolumn = "y"\nencode = "date"\nmissing = "constant"\n', "needs it"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, more: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        configured(tmp_path, more=more)
