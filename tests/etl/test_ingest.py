"""The stage `ingest`: from files of every format to the three bronze tables."""

import datetime
import gzip
import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from common.errors import CheckError, DataError
from etl.lake.tables import read_table
from etl.lake.tombstones import Tombstones, content_sha256, place_sha256
from etl.runs.run import Run
from etl.sources import outcomes
from etl.sources.accounting import SKIPPED, gave_nothing
from etl.sources.files import pieces
from etl.sources.files.jsonl import JsonLinesFormat
from etl.sources.files.parquet import ParquetFormat
from etl.sources.outcomes import check_files, file_rows
from etl.sources.reading import FILE, QUARANTINE, RECORD, Reader
from etl.stages import ingest as stage
from etl.stages.ingest import check_counts, ingest
from schemas import tables
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration


def lines(*records: Mapping[str, Any] | str) -> bytes:
    """Return JSON lines made from records, or from lines as they are."""
    return b"".join((r if isinstance(r, str) else json.dumps(r)).encode() + b"\n" for r in records)


def record(key: str, text: str | int = "some text", **more: Any) -> dict[str, Any]:
    return {"id": key, "label": "x", "text": text, **more}


def rows(spark: SparkSession, config: Configuration, table: str, *columns: str) -> list[tuple[Any, ...]]:
    frame = read_table(spark, getattr(tables.Layout.of(config), table))
    selected = frame.select(*columns) if columns else frame
    return sorted(map(plain, selected.collect()), key=repr)


def plain(row: Row) -> tuple[Any, ...]:
    return tuple(bytes(value) if isinstance(value, bytearray) else value for value in row)


def test_each_record_stands_in_exactly_one_table(spark: SparkSession, tmp_path: Path) -> None:
    first = lines(record("a"), "{", record("b", text=700_000_000), record("a", "again"))
    (tmp_path / "one.jsonl").write_bytes(first)
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress(lines(record("b", "é"), "", record("a"))))
    (tmp_path / "three.csv").write_bytes(b'label,id,text\ny,c,"1\n2"\ny,d\n')
    pq.write_table(
        pa.table({"id": ["e", "b"], "label": ["z", "z"], "text": ["t", "u"]}), tmp_path / "four.parquet"
    )
    (tmp_path / "five.txt").write_bytes(b"---\nid: f\nis_w: yes\n---\nbody")
    first_true = {"column": "label", "keys": {"is_w": "w"}}
    config = configuration(
        tmp_path,
        [
            {"format": "jsonl", "path": f"{tmp_path}/*.{{jsonl,jsonl.gz}}"},
            {"format": "csv", "path": f"{tmp_path}/*.csv"},
            {"format": "parquet", "path": f"{tmp_path}/four.parquet"},
            {"format": "front_matter", "path": f"{tmp_path}/*.txt", "first_true": first_true},
        ],
    )
    assert (
        ingest(Run(spark, config)).items()
        >= {"files": 5, "records_in": 11, "quarantined": 6, "records": 5}.items()
    )

    assert rows(spark, config, "records") == [
        ("a", 0, "one.jsonl", 0, 46, None, "x", "some text"),
        ("b", 0, "two.jsonl.gz", 0, 43, None, "x", "é"),
        ("c", 1, "three.csv", 14, 9, None, "y", "1\n2"),
        ("e", 2, "four.parquet", 0, 0, None, "z", "t"),
        ("f", 3, "five.txt", 0, 28, None, "w", "body"),
    ]
    third, fourth = first.split(b"\n")[2:4]
    assert rows(spark, config, "quarantine") == [
        (
            0,
            "one.jsonl",
            47,
            "invalid_json",
            "not JSON at character 1: expecting property name enclosed in double quotes",
            b"{",
        ),
        (0, "one.jsonl", 49, "wrong_type", "the column 'text' is a number and not a string", third),
        (
            0,
            "one.jsonl",
            94,
            "repeated_id",
            "the record at position 0 of one.jsonl has the same id and stays",
            fourth,
        ),
        (
            0,
            "two.jsonl.gz",
            45,
            "repeated_id",
            "the record at position 0 of one.jsonl has the same id and stays",
            lines(record("a"))[:-1],
        ),
        (1, "three.csv", 24, "wrong_field_count", "2 fields, but the header has 3", b"y,d"),
        (
            2,
            "four.parquet",
            1,
            "repeated_id",
            "the record at position 0 of two.jsonl.gz has the same id and stays",
            b'{"id": "b", "label": "z", "text": "u"}',
        ),
    ]
    columns = ("source_index", "source_path", "bytes", "sha256", "status", "records", "quarantined")
    assert rows(spark, config, "sources", *columns) == sorted(
        (
            index,
            name,
            (tmp_path / name).stat().st_size,
            hashlib.sha256((tmp_path / name).read_bytes()).hexdigest(),
            "read",
            *counts,
        )
        for index, name, *counts in (
            (0, "one.jsonl", 4, 3),
            (0, "two.jsonl.gz", 2, 1),
            (1, "three.csv", 2, 1),
            (2, "four.parquet", 2, 1),
            (3, "five.txt", 1, 0),
        )
    )
    for table in ("sources", "records", "quarantine"):
        properties = spark.sql(f"DESCRIBE DETAIL delta.`{getattr(tables.Layout.of(config), table)}`").first()
        assert properties is not None
        assert properties["properties"]["delta.enableDeletionVectors"] == "false"
        assert properties["properties"]["delta.columnMapping.mode"] == "none"


def outcomes_of(config: Configuration) -> list[dict[str, Any]]:
    """Return the outcomes of all pieces, read in this process, without what depends on their number."""
    reader = Reader(config)
    batches = reader.batches(0, pieces.list_pieces(config))
    found = [row for batch in batches for row in batch.to_pylist() if row["kind"] != FILE]
    placed = sorted(found, key=lambda row: (row["source_index"], row["source_path"], row["source_position"]))
    return [{key: value for key, value in row.items() if key != "row"} for row in placed]


@pytest.mark.parametrize("size", [1, 50, 97, 1000])
def test_pieces_of_any_size_give_the_same_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    many = [record(f"r{i}", "word " * (i % 7)) for i in range(40)]
    (tmp_path / "a.jsonl").write_bytes(lines(*many, "not json", "", "[]"))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    whole = outcomes_of(config)
    assert [row["kind"] for row in whole].count(RECORD) == 34
    assert [row["kind"] for row in whole].count(QUARANTINE) == 8
    monkeypatch.setattr(JsonLinesFormat, "piece_bytes", size)
    assert len(pieces.list_pieces(config)) > 2
    assert outcomes_of(config) == whole


def test_batches_are_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(*(record(str(i), "x" * 1000) for i in range(50))))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    monkeypatch.setattr("etl.sources.reading.BATCH_BYTES", 10_000)
    sizes = [batch.num_rows for batch in Reader(config).batches(0, pieces.list_pieces(config))]
    assert sum(sizes) == 51
    assert max(sizes) == 10


def test_a_place_where_something_was_erased_is_one_of_the_file_as_it_was(tmp_path: Path) -> None:
    file, content = tmp_path / "a.jsonl", lines(record("a"), "no json", record("b"))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    sha256 = hashlib.sha256(content).hexdigest()
    places = [("a.jsonl", 0, position) for position in (0, len(lines(record("a"))))]
    by_size = frozenset(place_sha256(*place, len(content)) for place in places)
    by_hash = frozenset(content_sha256(*place, sha256) for place in places)
    now = Tombstones(spots=by_size, contents=by_hash)
    for tombstones, stored, kept in (
        (now, content, ["b"]),
        (now, lines(record("c"), "no json", record("b")), ["c", "b"]),  # of the same size
        (now, content + lines(record("d")), ["a", "b", "d"]),
        (Tombstones(places=by_size), lines(record("c"), "no json", record("b")), ["b"]),
    ):
        file.write_bytes(stored)
        batches = Reader(config, tombstones=tombstones).batches(0, pieces.list_pieces(config))
        found = [row for batch in batches for row in batch.to_pylist()]
        assert [row["record_id"] for row in found if row["kind"] == RECORD] == kept
        reasons = [row["reason"] for row in found if row["kind"] == QUARANTINE]
        assert reasons == (["forgotten"] * 2 if kept == ["b"] else ["invalid_json"])


def test_raw_bytes_are_read_again_for_the_records_that_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(record("a"), "no json", record("b"), record("c")))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    listed = pieces.list_pieces(config)
    first = [row for batch in Reader(config).batches(3, listed) for row in batch.to_pylist()]
    numbers = {row["record_id"]: row["row"] for row in first if row["kind"] == RECORD}
    assert {row["raw"] for row in first if row["kind"] == RECORD} == {None}
    wanted = frozenset([numbers["b"], numbers["c"] + 1])  # and one that does not exist
    again = [row for batch in Reader(config, wanted).batches(3, listed) for row in batch.to_pylist()]
    assert [(row["record_id"], row["row"], row["raw"]) for row in again] == [
        ("b", numbers["b"], lines(record("b"))[:-1])
    ]


def test_a_source_that_changes_before_repeated_records_are_read_again_is_an_error(
    spark: SparkSession, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines(record("a"), record("b"), record("a")))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    tasks = pieces.group(pieces.list_pieces(config), 2)
    repeated = outcomes.repeated_records(outcomes.read_outcomes(spark, config, tasks)).localCheckpoint()
    found = outcomes.with_raw(repeated, spark, config, tasks)
    assert [bytes(row["raw"]) for row in found.collect()] == [lines(record("a"))[:-1]]
    outcomes.check_raw(repeated, found, config, tasks)
    file.write_bytes(lines(record("a"), record("b"), record("c")))
    with pytest.raises(
        DataError, match=r"a\.jsonl no longer holds the record that was read at its position 94"
    ):
        outcomes.check_raw(repeated, outcomes.with_raw(repeated, spark, config, tasks), config, tasks)
    # The same id and length, but another text.
    file.write_bytes(lines(record("a"), record("b"), record("a", "othertext")))
    with pytest.raises(DataError, match=r"a\.jsonl changed while it was read"):
        outcomes.check_raw(repeated, outcomes.with_raw(repeated, spark, config, tasks), config, tasks)
    file.unlink()
    with pytest.raises(DataError, match=r"a\.jsonl no longer holds .* or can no longer be read"):
        outcomes.check_raw(repeated, outcomes.with_raw(repeated, spark, config, tasks), config, tasks)


def test_only_the_tasks_with_repeated_ids_are_read_again(spark: SparkSession, tmp_path: Path) -> None:
    many = [record(f"r{i}", "word " * 40) for i in range(6000)]
    (tmp_path / "a.jsonl").write_bytes(lines(*many[:3000], record("r7", "again")))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(*many[3000:], record("r4000", "again"))))
    (tmp_path / "c.csv").write_bytes(
        b"id,label,text\n" + b"".join(b"c%d,x,%s\n" % (i, b"w" * 400) for i in range(3000))
    )
    config = configuration(
        tmp_path,
        [
            {"format": "jsonl", "path": f"{tmp_path}/*.jsonl*"},
            {"format": "csv", "path": f"{tmp_path}/*.csv"},
        ],
    )
    tasks = [[piece] for piece in pieces.list_pieces(config)]
    assert len(tasks) == 3
    first = outcomes.read_outcomes(spark, config, tasks)
    repeated = outcomes.repeated_records(first).localCheckpoint()
    found = outcomes.with_raw(repeated, spark, config, tasks)
    outcomes.check_raw(repeated, found, config, tasks)
    assert sorted(bytes(row["raw"]) for row in found.select("raw").collect()) == sorted(
        lines(record(key, "again"))[:-1] for key in ("r7", "r4000")
    )


def test_ids_are_derived_alike_in_every_run(tmp_path: Path) -> None:
    found = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_bytes(lines({"text": "same"}, {"text": "same"}))
        source = {"format": "jsonl", "path": f"{tmp_path / name}/*.jsonl"}
        config = configuration(tmp_path / name, [source, source], {})
        found.append([row["record_id"] for row in outcomes_of(config)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 4  # also of a file that two sources name


def test_times_are_kept_and_read(tmp_path: Path) -> None:
    seen = ["1970-01-02T00:00:00+01:00", 1.5, "soon"]
    (tmp_path / "a.jsonl").write_bytes(lines(*(record(str(i), seen=value) for i, value in enumerate(seen))))
    source = {"format": "jsonl", "path": f"{tmp_path}/a.jsonl"}
    config = configuration(tmp_path, [source], {"id": "id", "time": "seen"})
    kept = [(row["column_0"], row["time_seconds"], row["reason"]) for row in outcomes_of(config)]
    assert kept == [
        ("1970-01-02T00:00:00+01:00", 82800.0, None),
        ("1.5", 1.5, None),
        (None, None, "invalid_time"),
    ]


def test_a_damaged_file_keeps_what_stood_before_the_damage(spark: SparkSession, tmp_path: Path) -> None:
    noise = [
        record(hashlib.sha256(bytes([i, j])).hexdigest()) for i, j in itertools.product(range(8), range(250))
    ]
    whole = gzip.compress(lines(*noise))
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.jsonl.gz").write_bytes(b"\xffno gzip")
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.gz"}])
    counts = ingest(Run(spark, config))
    assert counts["quarantined"] == 2
    assert counts["records"] > 100
    assert rows(spark, config, "sources", "source_path", "status", "quarantined") == [
        ("cut.jsonl.gz", "read", 1),
        ("none.jsonl.gz", "unreadable", 1),
    ]
    assert {
        (path, reason) for path, reason in rows(spark, config, "quarantine", "source_path", "reason")
    } == {
        ("cut.jsonl.gz", "unreadable_file"),
        ("none.jsonl.gz", "unreadable_file"),
    }


def test_a_large_file_of_which_nothing_can_be_read_is_one_row(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(record("a"), record("b"), "no json"))
    (tmp_path / "gone.jsonl").write_bytes(lines(record("c"), record("d")))
    pq.write_table(pa.table({"id": ["e"], "label": ["x"], "text": ["t"]}), tmp_path / "cut.parquet")
    pq.write_table(pa.table({"id": ["f"], "label": ["x"], "text": ["t"]}), tmp_path / "good.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    sources = [{"format": name, "path": f"{tmp_path}/*.{name}"} for name in ("jsonl", "parquet")]
    config = configuration(tmp_path, sources)
    monkeypatch.setattr(JsonLinesFormat, "piece_bytes", 30)
    monkeypatch.setattr(ParquetFormat, "piece_bytes", 100)
    listed = pieces.list_pieces(config)
    (tmp_path / "gone.jsonl").unlink()
    for name in ("gone.jsonl", "cut.parquet"):
        assert sum(piece.file.path == name for piece in listed) > 3
    monkeypatch.setattr(stage, "list_pieces", lambda _: listed)
    counts = ingest(Run(spark, config))
    assert (counts["records_in"], counts["records"], counts["quarantined"]) == (6, 3, 3)
    columns = ("source_path", "source_position", "reason", "detail")
    assert rows(spark, config, "quarantine", *columns)[1:] == [
        ("cut.parquet", 0, "unreadable_file", "the file is not Parquet or is damaged from row 0 on"),
        (
            "gone.jsonl",
            0,
            "unreadable_file",
            "the file cannot be opened (No such file or directory): nothing can be read from byte 0 of its content on",
        ),
    ]
    assert rows(spark, config, "sources", "source_path", "status", "records", "quarantined") == [
        ("a.jsonl", "read", 3, 1),
        ("cut.parquet", "unreadable", 1, 1),
        ("gone.jsonl", "unreadable", 1, 1),
        ("good.parquet", "read", 1, 0),
    ]


def test_a_source_without_a_readable_file_stops_before_anything_is_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "none.jsonl.gz").write_bytes(b"\xffno gzip")
    (tmp_path / "a.jsonl").write_bytes(lines(record("a")))
    sources = [{"format": "jsonl", "path": f"{tmp_path}/*.{ending}"} for ending in ("jsonl", "gz", "bz2")]
    with pytest.raises(DataError, match=r"none of the 1 files of the source '.*/\*\.gz' could be read"):
        ingest(Run(spark, configuration(tmp_path, sources[:2])))
    with pytest.raises(DataError, match=r"the pattern '.*/\*\.bz2' of a \[\[source\]\] matches no file"):
        ingest(Run(spark, configuration(tmp_path, sources)))
    assert not (tmp_path / "warehouse").exists()


def test_an_id_column_that_always_repeats_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "MAX_REPEATED", 2)
    (tmp_path / "a.jsonl").write_bytes(lines(*[record("same")] * 4))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/a.jsonl"}])
    with pytest.raises(DataError, match="3 records repeat the id of another one: the column 'id' is no id"):
        ingest(Run(spark, config))


def test_a_file_that_grows_meanwhile_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines(record("a")))
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(file)}])
    listed = pieces.list_pieces(config)
    file.write_bytes(lines(record("a"), record("b")))
    monkeypatch.setattr(stage, "list_pieces", lambda _: listed)
    with pytest.raises(
        DataError, match=r"a\.jsonl of the source .* changed while it was read \(47 bytes, then 94\)"
    ):
        ingest(Run(spark, config))


def test_counts_that_do_not_add_up_are_a_defect() -> None:
    check_counts({"records_in": 3, "records": 2, "quarantined": 1})
    with pytest.raises(CheckError, match="3 records were read, but 2 stand in bronze/records and 2"):
        check_counts({"records_in": 3, "records": 2, "quarantined": 2})


def test_content_that_does_not_add_up_is_a_defect(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(record("a")) + b"\n")
    config = configuration(tmp_path, [{"format": "jsonl", "path": str(tmp_path / "a.jsonl")}])
    # Python workers are forked from another process, so that nothing can be patched for them.
    found = Reader(config).batches(0, pieces.list_pieces(config))
    read = pa.Table.from_batches(
        [
            batch.set_column(
                batch.schema.names.index("records_size"),
                "records_size",
                pc.subtract(batch["records_size"], 1),
            )
            for batch in found
        ]
    )
    files = file_rows(spark.createDataFrame(read.filter(pc.equal(read["kind"], FILE))))
    expected = "of 48 there are 47: records 45, quarantined 0, line_end 2; unless something wrote"
    with pytest.raises(CheckError, match=f"the content of a.jsonl does not add up: {expected}"):
        check_files(files, config)


def test_a_file_of_which_nothing_comes_is_told(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,label,text\na,x,one\nb,x,two\n")
    (tmp_path / "b.csv").write_bytes(b"id,label,text\r\n\r\n")
    (tmp_path / "c.csv").write_bytes(b"")
    config = configuration(tmp_path, [{"format": "csv", "path": f"{tmp_path}/*.csv"}])
    assert (
        ingest(Run(spark, config)).items()
        >= {"files": 3, "records_in": 2, "quarantined": 0, "records": 2}.items()
    )
    said = "warning: 1 file of the source '.*' gave neither a record nor a row of the quarantine: b.csv"
    skipped = "blank_line 1, header 14, line_end 2"
    assert re.search(rf"{said} \(17 bytes or rows: {skipped}\)", capsys.readouterr().err)
    columns = ("source_path", "content_size", "records_size", "quarantined_size", "skipped", "lines")
    assert rows(spark, config, "sources", *columns) == [
        ("a.csv", 30, 14, 0, [("header", 13), ("line_end", 3)], 2),
        ("b.csv", 17, 0, 0, [("blank_line", 1), ("header", 14), ("line_end", 2)], 0),
        ("c.csv", 0, 0, 0, [], 0),
    ]


def test_labels_of_images_are_no_file_of_which_nothing_comes(spark: SparkSession) -> None:
    skipped = [[("labels", 9)], [("header", 9)], []]
    columns = f"records: bigint, content_size: bigint, skipped: {SKIPPED}"
    files = spark.createDataFrame(list(zip([0, 0, 1], [9] * 3, skipped, strict=True)), columns)
    assert [row[0] for row in files.select(gave_nothing()).collect()] == [False, True, False]


def test_a_run_over_a_former_one_replaces_it(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    (tmp_path / "a.jsonl").write_bytes(lines(record("a"), "x"))
    ingest(Run(spark, config))
    os.utime(tmp_path / "a.jsonl", (0, 0))
    (tmp_path / "b.jsonl").write_bytes(lines(record("b")))
    assert ingest(Run(spark, config))["records"] == 2
    assert [key for (key,) in rows(spark, config, "records", "record_id")] == ["a", "b"]
    modified = dict(rows(spark, config, "sources", "source_path", "modified"))
    assert modified["a.jsonl"].replace(tzinfo=datetime.UTC).timestamp() == 0
