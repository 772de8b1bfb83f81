"""Runs with new files: only these are processed, and earlier decisions stay."""

import errno
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from common.errors import DataError
from etl.erasure.finding import Person
from etl.erasure.forgetting import forget
from etl.lake.tables import read_table, write_table
from etl.runs.run import Run
from etl.sources.changes import SourceChanges, may_go_on, source_changes
from etl.sources.content.listing import SourceFile
from etl.sources.files.pieces import Piece, list_pieces
from etl.splits.assignment import divide
from etl.versions.building import STAGES, run_stages
from schemas.config import Configuration, load
from schemas.manifest import Manifest
from schemas.settings import Split
from schemas.tables import Layout, sources_schema

CONFIGURATION = """
[dataset]
name = "example"
root = "{root}/warehouse"
[[source]]
format = "jsonl"
path = "{root}/files/*.jsonl"
[columns]
id = "id"
label = "label"
group = "group"
[deduplicate]
survivor = "first"
duplicates = "{duplicates}"
[[feature]]
name = "tokens"
column = "text"
vocabulary = 300
length = 8
[quality]
max_quarantine_share = 1.0
max_split_deviation = 1.0
max_class_deviation = 1.0
[increments]
changed = "{policy}"
vanished = "{policy}"
"""
WORDS = [f"word{n}" for n in range(4000)]


def text(number: int, changed: int = 0, first: int = 0) -> str:
    """Return sixty words unique to each number, with the last `changed` and the `first` ones replaced."""
    words = WORDS[number * 60 : number * 60 + 60]
    others = [f"other{n}" for n in range(changed)], [f"another{n}" for n in range(first)]
    return " ".join(others[1] + words[first : 60 - changed] + others[0])


def record(name: str, content: str, group: str | None = None, label: str = "x") -> dict[str, Any]:
    return {"id": name, "label": label, "group": group or name, "text": content}


def write(folder: Path, name: str, records: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))


def configured(tmp_path: Path, duplicates: str = "drop", policy: str = "rebuild") -> Configuration:
    file = tmp_path / "conf.toml"
    file.write_text(CONFIGURATION.format(root=tmp_path, duplicates=duplicates, policy=policy))
    return load(file)


def run(spark: SparkSession, config: Configuration, again: bool = False) -> Manifest:
    return run_stages(spark, config, 0.0, again)[0]


def ledger(spark: SparkSession, config: Configuration) -> dict[str, dict[str, Any]]:
    rows = read_table(spark, Layout.of(config).ledger).collect()
    assert len({row["record_id"] for row in rows}) == len(rows)
    return {row["record_id"]: row.asDict() for row in rows}


def first_files(tmp_path: Path) -> None:
    """Write 30 records with texts of their own in 24 groups, a copy and a near-copy."""
    records = [record(f"a{n}", text(n), group=f"g{n % 24}") for n in range(30)]
    records += [record("copy", text(3), group="g3"), record("near", text(4, 3), group="g4")]
    write(tmp_path / "files", "a.jsonl", records)


def later_files(tmp_path: Path, other: str) -> None:
    """Write a file of ten records; `other` is a group in another split than g0."""
    write(
        tmp_path / "files",
        "b.jsonl",
        [
            record("b0", text(40)),
            record("b1", text(41), group="g0"),  # goes to the split of its group
            record("b2", text(5)),  # a copy of an earlier text
            record("b3", text(6, 3)),  # a near-copy of one
            record("b4", text(42), label="y"),
            record("b5", text(42, 3), label="y"),  # a near-copy of a new one
            record("b6", text(43), group="g0"),
            record("b7", text(43, 2), group=other),  # a near-copy of b6, in a group of another split
            record("a1", text(44)),  # an id that exists already
            record("b8", text(4, 6)),  # near to `near`, which is near to a4
        ],
    )


def test_a_run_with_new_files_adds_to_what_is_there(spark: SparkSession, tmp_path: Path) -> None:
    first_files(tmp_path)
    config = configured(tmp_path)
    layout = Layout.of(config)
    first = run(spark, config)
    before = ledger(spark, config)
    files = {name: set(DeltaTable(layout.at(*name)).file_uris()) for name in LARGE}
    groups = {f"g{n % 24}": before[f"a{n}"]["split"] for n in range(24)}
    other = next(group for group in groups if groups[group] != groups["g0"])
    later_files(tmp_path, other)
    second = run(spark, config)
    after = ledger(spark, config)
    # Decisions stay, and no file of the large tables was rewritten.
    assert {name: after[name] for name in before} == before
    for name, known in files.items():
        assert known <= set(DeltaTable(layout.at(*name)).file_uris())
    new = {name: after[name] for name in after.keys() - before.keys()}
    assert new.keys() == {f"b{n}" for n in range(9)}
    assert [(new[f"b{n}"]["status"], new[f"b{n}"]["reason"]) for n in (2, 3, 5, 8)] == [
        ("exact_duplicate", "a5"),
        ("near_duplicate", "a6"),
        ("near_duplicate", "b4"),
        ("near_duplicate", "a4"),
    ]
    assert new["b1"]["split"] == groups["g0"]
    assert new["b0"]["split"] is not None
    assert second.content.counts["records_in"] == first.content.counts["records_in"] + 10
    assert second.content.counts["quarantined"] == 1
    rows = read_table(spark, layout.encoded).collect()
    assert {row["record_id"] for row in rows} == {name for name, row in after.items() if row["split"]}
    # New classes follow the known ones, whose index stays.
    assert {row["label_index"] for row in rows if row["record_id"] == "b4"} == {1}
    assert all(stage.completion(Run(spark, config)) is not None for stage in STAGES)


@pytest.mark.thorough
def test_an_increment_reads_no_earlier_text(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The texts of the first run are destroyed before the second, so that reading any of them would fail."""
    first_files(tmp_path)
    config = configured(tmp_path)
    run(spark, config)
    before = ledger(spark, config)
    destroyed = [file for table in LARGE[:2] for file in destroy_texts(config, table)]
    assert destroyed
    for file in destroyed:
        assert len(pq.read_table(file, columns=["record_id"])) > 0
        with pytest.raises(OSError, match="header"):
            pq.read_table(file, columns=["text"])
    later_files(tmp_path, "of its own")
    # The report shows a few records for each rule, from only the files that hold them.
    monkeypatch.setattr("etl.reporting.examples._texts", lambda *_: {})
    manifest = run(spark, config)
    after = ledger(spark, config)
    assert {name: after[name] for name in before} == before
    assert (after["b0"]["status"], after["b3"]["reason"]) == ("kept", "a6")
    assert manifest.content.counts["records_in"] == len(before) + 10


def destroy_texts(config: Configuration, table: tuple[str, str]) -> set[str]:
    """Overwrite the column `text` with zeros in all files of a table; return these files."""
    files = {unquote(uri) for uri in files_of(config, table)}
    for file in files:
        metadata = pq.read_metadata(file)
        with open(file, "r+b") as content:
            for group in map(metadata.row_group, range(metadata.num_row_groups)):
                for chunk in map(group.column, range(metadata.num_columns)):
                    if chunk.path_in_schema == "text":
                        begin = min(
                            o for o in (chunk.dictionary_page_offset, chunk.data_page_offset) if o is not None
                        )
                        content.seek(begin)
                        content.write(bytes(chunk.total_compressed_size))
        Path(file).with_name(f".{Path(file).name}.crc").unlink(missing_ok=True)
    return files


LARGE = (
    ("bronze", "records"), ("silver", "fields"), ("silver", "signatures"), ("silver", "clusters"), ("silver", "ledger"),
    ("silver", "encoded"),
)  # fmt: skip


def survivors(spark: SparkSession, config: Configuration) -> set[str]:
    return {name for name, row in ledger(spark, config).items() if row["status"] == "kept"}


@pytest.mark.thorough
def test_made_anew_from_all_files_the_survivors_are_the_same_but_for_bridges(
    spark: SparkSession, tmp_path: Path
) -> None:
    first_files(tmp_path)
    config = configured(tmp_path)
    run(spark, config)
    later_files(tmp_path, "of its own")
    run(spark, config)
    before = survivors(spark, config)
    run(spark, config, again=True)
    assert survivors(spark, config) == before
    # Two texts that are no near-copies of each other, and a later one between them.
    numbers = range(44, 64)
    pairs = [(record(f"left{n}", text(n)), record(f"right{n}", text(n, 4, 4))) for n in numbers]
    write(tmp_path / "files", "c.jsonl", [one for pair in pairs for one in pair])
    run(spark, config)
    found = ledger(spark, config)
    splits = {n: {found[f"{side}{n}"]["split"] for side in ("left", "right")} for n in numbers}
    one_split = next(n for n in numbers if len(splits[n]) == 1)
    two_splits = next(n for n in numbers if len(splits[n]) == 2)
    assert {f"{side}{n}" for side in ("left", "right") for n in numbers} <= survivors(spark, config)
    between = [record(f"bridge{n}", text(n, 4)) for n in (one_split, two_splits)]
    write(tmp_path / "files", "d.jsonl", [*between, record("bridge copy", text(two_splits, 4))])
    run(spark, config)
    apart = ledger(spark, config)
    bridge = apart[f"bridge{one_split}"]
    assert (bridge["status"], bridge["reason"]) == ("near_duplicate", found[f"left{one_split}"]["cluster_id"])
    for name in (f"bridge{two_splits}", "bridge copy"):
        assert (apart[name]["status"], apart[name]["reason"]) == ("filtered", "split_conflict")
        assert (apart[name]["split"], apart[name]["cluster_id"]) == (None, None)
    assert {name: apart[name] for name in found} == found
    before = survivors(spark, config)
    run(spark, config, again=True)
    assert before - survivors(spark, config) == {f"right{n}" for n in (one_split, two_splits)}


@pytest.mark.thorough
def test_what_belongs_to_records_in_different_splits_is_left_out(spark: SparkSession, tmp_path: Path) -> None:
    first_files(tmp_path)
    config = configured(tmp_path, duplicates="keep")
    run(spark, config)
    before = ledger(spark, config)
    train = next(f"a{n}" for n in range(24) if before[f"a{n}"]["split"] == "train")
    other = next(f"a{n}" for n in range(24) if before[f"a{n}"]["split"] not in (None, "train"))
    numbers = {name: int(name[1:]) for name in (train, other)}
    write(
        tmp_path / "files",
        "b.jsonl",
        [
            record("both", text(numbers[train], 3), group=f"g{numbers[other] % 24}"),
            record("one", text(numbers[other], 3)),
        ],
    )
    run(spark, config)
    after = ledger(spark, config)
    assert (after["both"]["status"], after["both"]["reason"], after["both"]["split"]) == (
        "filtered",
        "split_conflict",
        None,
    )
    assert (after["one"]["status"], after["one"]["split"]) == ("kept", before[other]["split"])
    assert {name: after[name] for name in before} == before

    # The same if no group but only the text lies between clusters of two splits.
    pairs = [
        (record(f"left{n}", text(n)), record(f"right{n}", text(n, 4, 4), label="y")) for n in range(44, 64)
    ]
    write(tmp_path / "files", "c.jsonl", [one for pair in pairs for one in pair])
    run(spark, config)
    before = ledger(spark, config)
    apart = next(n for n in range(44, 64) if before[f"left{n}"]["split"] != before[f"right{n}"]["split"])
    write(tmp_path / "files", "d.jsonl", [record("bridge", text(apart, 4))])
    run(spark, config)
    after = ledger(spark, config)
    assert (after["bridge"]["status"], after["bridge"]["reason"], after["bridge"]["split"]) == (
        "filtered",
        "split_conflict",
        None,
    )
    assert {name: after[name] for name in before} == before


@pytest.mark.thorough
def test_files_that_changed_or_vanished_are_told_and_handled(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_files(tmp_path)
    folder = tmp_path / "files"
    write(folder, "z.jsonl", [record("z0", text(50))])
    run(spark, configured(tmp_path))
    # A file that was only touched is unchanged; its hash says so.
    os.utime(folder / "z.jsonl", (1, 1))
    files = {name: files_of(configured(tmp_path), name) for name in LARGE}
    run(spark, configured(tmp_path))
    assert "files of the sources" not in capsys.readouterr().err
    assert {name: files_of(configured(tmp_path), name) for name in LARGE} == files
    write(folder, "z.jsonl", [record("z0", text(51))])
    write(folder, "y.jsonl", [record("y0", text(52))])
    with pytest.raises(
        DataError, match=r"1 files of the sources have changed .*\(z.jsonl\): restore them, or let"
    ):
        run(spark, configured(tmp_path, policy="stop"))
    config = configured(tmp_path, policy="keep")
    manifest = run(spark, config)
    assert "1 files of the sources have changed since they were ingested (z.jsonl): their records stay" in (
        capsys.readouterr().err
    )
    assert manifest.content.counts["records_in"] == 34
    texts = {r["record_id"]: r["text"] for r in read_table(spark, Layout.of(config).fields).collect()}
    assert texts["z0"] == text(50)
    (folder / "z.jsonl").unlink()
    run(spark, configured(tmp_path, policy="rebuild"))
    assert (
        "1 files of the sources have vanished since they were ingested (z.jsonl): everything is rebuilt"
        in (capsys.readouterr().err)
    )
    assert "z0" not in ledger(spark, config)


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_an_increment_that_broke_off_goes_on_as_one(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    first_files(folder)
    config = configured(folder)
    run(spark, config)
    places = (
        ("ingest", "records"),
        ("clean", "fields"),
        ("deduplicate", "signatures"),
        ("deduplicate", "clusters"),
        ("split", "ledger"),
        ("encode", "encoded"),
    )
    for number, (stage, table) in enumerate(places):
        before = ledger(spark, config)
        files = {name: files_of(config, name) for name in LARGE}
        at, near = f"{stage} {table}", number + 6
        lines = [
            record(f"{at} new", text(40 + number)),
            record(f"{at} near", text(near, 3)),
            record(f"{at} bad", ""),
        ]
        # Its name sorts before all others.
        write(folder / "files", f"0-{9 - number}.jsonl", lines)
        with monkeypatch.context() as patch:
            patch.setattr("etl.runs.run.write_table", breaking_off_at(table))
            with pytest.raises(InterruptedError):
                run(spark, config)
        counts = run(spark, config).content.counts
        after = ledger(spark, config)
        assert {name: after[name] for name in before} == before
        assert all(known <= files_of(config, name) for name, known in files.items()), at
        assert (after[f"{at} new"]["status"], after[f"{at} near"]["reason"]) == ("kept", f"a{near}")
        assert (counts["records_in"], counts["quarantined"]) == (32 + 3 * (number + 1), number + 1)


def files_of(config: Configuration, table: tuple[str, str]) -> set[str]:
    return set(DeltaTable(Layout.of(config).at(*table)).file_uris())


def breaking_off_at(table: str) -> Any:
    """Wrap `write_table` to break off before the given table."""

    def write_others(frame: Any, uri: str, *others: Any, **more: Any) -> int:
        if uri.endswith(f"/{table}"):
            raise InterruptedError
        return write_table(frame, uri, *others, **more)

    return write_others


@pytest.mark.thorough
def test_settings_that_change_in_between_hold_for_all_records(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_files(tmp_path)
    config = configured(tmp_path)
    run(spark, config)
    write(tmp_path / "files", "b.jsonl", [record("b0", text(40))])
    with monkeypatch.context() as patch:
        patch.setattr("etl.runs.run.write_table", breaking_off_at("clusters"))
        with pytest.raises(InterruptedError):
            run(spark, config)
    other = config.model_copy(
        update={"deduplicate": config.deduplicate.model_copy(update={"similarity": 0.95})}
    )
    run(spark, other)
    assert ledger(spark, other)["near"]["status"] == "kept"


@pytest.mark.thorough
def test_what_was_erased_in_between_does_not_come_back(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "files"
    first_files(tmp_path)
    write(folder, "b.jsonl", [record("bad", "")])
    config = configured(tmp_path)
    run(spark, config)
    write(folder, "c.jsonl", [record("c0", text(40)), record("worse", "")])
    with monkeypatch.context() as patch:
        patch.setattr("etl.runs.run.write_table", breaking_off_at("records"))
        with pytest.raises(InterruptedError):
            run(spark, config)
    forget(spark, config, Person.of(["bad"]))
    run(spark, config)
    rows = read_table(spark, Layout.of(config).quarantine).collect()
    assert {(row["source_path"], row["reason"], row["raw"] is None) for row in rows} == {
        ("b.jsonl", "forgotten", True),
        ("c.jsonl", "empty_value", False),
    }
    assert "c0" in ledger(spark, config)


def ingested(config: Configuration, folder: Path) -> list[Piece]:
    """Return the pieces of the files, after writing bronze/sources with another modification time for each."""
    pieces = list_pieces(config)
    rows = [
        {
            "source_index": 0,
            "source_path": piece.file.path,
            "bytes": piece.file.bytes,
            "sha256": hashlib.sha256((folder / piece.file.path).read_bytes()).hexdigest(),
            "modified": datetime(2020, 1, 1, tzinfo=UTC),
            "status": "read",
        }
        for piece in pieces
    ]
    schema = pa.schema([sources_schema().field(name) for name in rows[0]])
    write_deltalake(Layout.of(config).sources, pa.Table.from_pylist(rows, schema))
    return pieces


def test_files_that_were_touched_are_told_from_changed_ones_without_comparing_them_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        write(tmp_path / "files", f"{name}.jsonl", [record(name, "text")])
    config = configured(tmp_path)
    pieces = ingested(config, tmp_path / "files")
    write(tmp_path / "files", "c.jsonl", [record("C", "text")])
    monkeypatch.setattr(SourceFile, "__eq__", lambda *_: pytest.fail("compared"))
    found = source_changes(config, pieces)
    assert [file.path for file in found.touched] == ["a.jsonl", "b.jsonl", "d.jsonl"]
    assert found.changed == ["c.jsonl"]


def test_a_file_that_cannot_be_compared_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "files", "a.jsonl", [record("a", "text")])
    config = configured(tmp_path)
    pieces = ingested(config, tmp_path / "files")

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.open", refused)
    with pytest.raises(
        DataError, match=r"a\.jsonl cannot be read: Input/output error; check its permissions"
    ):
        source_changes(config, pieces)


@pytest.mark.parametrize(
    ("changed", "vanished", "goes_on"),
    [
        ("keep", "keep", True),
        ("keep", "rebuild", False),
        ("rebuild", "keep", False),
        ("stop", "keep", None),
        ("keep", "stop", None),
    ],
)
def test_each_policy_decides_about_its_own_files(
    tmp_path: Path, changed: str, vanished: str, goes_on: bool | None
) -> None:
    config = configured(tmp_path)
    policies = config.increments.model_copy(update={"changed": changed, "vanished": vanished})
    config = config.model_copy(update={"increments": policies})
    changes = SourceChanges([], [], ["a.jsonl"], ["b.jsonl"], frozenset({0}), False)
    if goes_on is None:
        which = "a.jsonl" if changed == "stop" else "b.jsonl"
        with pytest.raises(DataError, match=rf"1 files .* \({which}\): restore them"):
            may_go_on(changes, config)
    else:
        assert may_go_on(changes, config) is goes_on


def test_new_rows_make_up_for_what_splits_lack() -> None:
    settings = Split(train=0.8, validation=0.1, test=0.1)
    few: dict[str | None, int] = {"x": 4}
    assert divide(few, {}, settings)[1][0].shares == pytest.approx((0.8, 0.1, 0.1))
    (cut,) = divide(few, {}, settings, {"x": [36, 0, 0]})[1]
    # Of 44 rows, 4.4 each are wanted where there are none.
    assert cut.shares == (0, 0.5, 0.5)
