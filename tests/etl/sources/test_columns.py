"""Configured columns that the sources do not have."""

import bz2
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import ConfigurationError, DataError
from etl import ingest, pipeline
from etl.sources import columns
from etl.sources.columns import check_columns, evenly, nearest
from etl.sources.content.listing import SourceFile
from etl.sources.files.formats import FilePart
from etl.sources.files.pieces import Piece
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration, write_toml

RECORD = {"doc_id": "1", "body": "some words", "topic": "x"}
ROLES = {"id": "doc_id", "label": "topic"}


def checked(
    folder: Path,
    sources: Sequence[Mapping[str, Any]],
    roles: Mapping[str, Any] = ROLES,
    column: str = "body",
    features: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the refusal of a configuration, or nothing."""
    whole = configuration(folder, sources, roles).model_dump(mode="json")
    whole["feature"] = [{"name": "tokens", "column": column}, *features]
    try:
        check_columns(Configuration.model_validate(whole))
    except ConfigurationError as error:
        return str(error)
    return ""


def jsonl(file: Path, *records: Mapping[str, object]) -> dict[str, str]:
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    packs: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress}
    file.write_bytes(packs[file.suffix](content) if file.suffix in packs else content)
    return {"format": "jsonl", "path": str(file)}


def test_a_column_that_a_header_lacks_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "news.csv").write_text("doc_id,body,topic\n1,some words,x\n")
    source = {"format": "csv", "path": str(tmp_path / "news.csv")}
    assert checked(tmp_path, [source]) == ""
    assert checked(tmp_path, [source], {"label": "Topic"}) == (
        "news.csv has no column 'Topic'; it has doc_id, body, topic (did you mean 'topic'?); correct columns.label"
    )
    assert checked(tmp_path, [source], {"label": "Topic", "id": "docid"}, "text") == (
        "news.csv has no column 'docid' and no column 'Topic' and no column 'text'; it has doc_id, body, topic (did "
        "you mean 'doc_id' for 'docid' and 'topic' for 'Topic'?); correct columns.id, columns.label, feature.0.column, "
        "or name the columns in source.header if the first line is no header"
    )


def test_a_nested_column_is_named_by_its_path(tmp_path: Path) -> None:
    nested = {"doc_id": "1", "event": {"body": "some words", "topic": "x", "more": [{"n": 1}]}}
    source = jsonl(tmp_path / "a.jsonl", nested)
    assert checked(tmp_path, [source], {"label": "event.topic"}, "event.body") == ""
    assert checked(tmp_path, [source], {"label": "event.topic"}) == (
        "a.jsonl has no column 'body'; it has doc_id, event, event.topic, event.body, event.more[0].n (did you mean "
        "'event.body'?); correct feature.0.column"
    )
    renamed = {"label": "topic", "rename": {"topic": "event.topik"}}
    assert checked(tmp_path, [source], renamed, "event.body").endswith("correct columns.rename.topic")


@pytest.mark.parametrize("main", [pipeline.main, ingest.main])
def test_nothing_is_started_or_written_for_a_wrong_column(
    main: Callable[[list[str]], int], tmp_path: Path
) -> None:
    (tmp_path / "news.csv").write_text("doc_id,body,topic\n1,some words,x\n")
    settings = [
        f"source=[{{ format = 'csv', path = '{tmp_path}/news.csv' }}]", "columns.label=Topic", "feature.0.column=body"
    ]  # fmt: skip
    flags = [part for one in settings for part in ("--set", one)]
    with pytest.raises(
        ConfigurationError, match=r"^news.csv has no column 'Topic'; it has doc_id, body, topic "
    ):
        main(["--config", str(write_toml(tmp_path / "conf.toml", str(tmp_path / "warehouse"))), *flags])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf.toml", "news.csv"]


def test_a_header_of_another_delimiter_is_told(tmp_path: Path) -> None:
    (tmp_path / "news.csv").write_text("doc_id;body;topic\n1;some words;x\n")
    refusal = checked(tmp_path, [{"format": "csv", "path": str(tmp_path / "news.csv")}])
    assert refusal.endswith("or source.delimiter, which is ';' by the look of the first line")


@pytest.mark.parametrize(
    "content", [b'{"doc_id": "1", "body": "a"}\n', b'\xef\xbb\xbf[{"doc_id": 1}]', b'{"a": 1}']
)
def test_json_is_no_csv(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "news.csv").write_bytes(content)
    refusal = checked(tmp_path, [{"format": "csv", "path": str(tmp_path / "news.csv")}])
    assert refusal == 'news.csv is JSON by the look of it: source.format = "jsonl"'


def test_columns_of_a_configured_header_are_compared_too(tmp_path: Path) -> None:
    (tmp_path / "news.csv").write_text("1,some words,x\n")
    source = {"format": "csv", "path": str(tmp_path / "news.csv"), "header": ["doc_id", "body", "topic"]}
    assert checked(tmp_path, [source]) == ""
    assert "no column 'text'" in checked(tmp_path, [source], column="text")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.bz2"])
def test_what_no_record_of_a_source_has_is_refused(tmp_path: Path, name: str) -> None:
    lacking = {key: value for key, value in RECORD.items() if key != "topic"}
    some = jsonl(tmp_path / name, *[lacking] * 500, RECORD)
    assert checked(tmp_path, [some]) == ""
    assert f"{name} has no column 'Topic'; it has doc_id, body, topic" in checked(
        tmp_path, [some], {"label": "Topic"}
    )


def test_each_source_has_to_have_the_columns(tmp_path: Path) -> None:
    whole = jsonl(tmp_path / "whole.jsonl", RECORD)
    other = jsonl(tmp_path / "other.jsonl", {"doc_id": "2", "body": "words", "subject": "x"})
    assert "other.jsonl has no column 'topic'; it has doc_id, body, subject" in checked(
        tmp_path, [whole, other]
    )


def test_a_column_that_one_file_of_a_source_has_is_enough(tmp_path: Path) -> None:
    jsonl(tmp_path / "1.jsonl", {"doc_id": "1", "body": "words"})
    jsonl(tmp_path / "2.jsonl", RECORD)
    source = {"format": "jsonl", "path": str(tmp_path / "*.jsonl")}
    assert checked(tmp_path, [source]) == ""
    assert "1.jsonl, like each of the 2 files looked at, has no column 'kind'; it has doc_id" in checked(
        tmp_path, [source], {"label": "kind"}
    )


def test_a_typed_column_may_be_missing_in_some_sources_alone(tmp_path: Path) -> None:
    without = jsonl(tmp_path / "without.jsonl", RECORD)
    price = {"name": "price", "column": "price", "encode": "number"}
    assert "without.jsonl has no column 'price'" in checked(tmp_path, [without], features=[price])
    priced = jsonl(tmp_path / "with.jsonl", {**RECORD, "price": 3})
    assert checked(tmp_path, [without, priced], features=[price]) == ""
    assert checked(tmp_path, [priced, without], features=[price]) == ""


def test_columns_of_parquet_are_those_of_the_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({name: [value] for name, value in RECORD.items()}), tmp_path / "a.parquet")
    source = {"format": "parquet", "path": str(tmp_path / "a.parquet")}
    assert checked(tmp_path, [source]) == ""
    assert "a.parquet has no column 'text'; it has doc_id, body, topic; correct feature.0.column" in checked(
        tmp_path, [source], column="text"
    )


def test_columns_of_front_matter_are_its_keys_and_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ndoc_id: 1\ntopic: x\n---\nsome words\n")
    source = {"format": "front_matter", "path": str(tmp_path / "*.md"), "text": "body"}
    assert checked(tmp_path, [source]) == ""
    assert "a.md has no column 'text'; it has doc_id, topic, body" in checked(
        tmp_path, [source], column="text"
    )


@pytest.mark.parametrize("content", [b"", b"\n\n", b"not JSON\n", b'\xff{"a": 1}', b"\x1f\x8b"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "a.md"])
def test_what_cannot_be_read_is_left_to_ingest(tmp_path: Path, name: str, content: bytes) -> None:
    if name == "a.csv" and content == b"not JSON\n":
        content = b'"never closed\n'
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"b-{name}").symlink_to(tmp_path / "nowhere")
    kinds = {".csv": "csv", ".parquet": "parquet", ".md": "front_matter"}
    source = {"format": kinds.get((tmp_path / name).suffix, "jsonl"), "path": str(tmp_path / f"*{name}")}
    assert checked(tmp_path, [source]) == ""


def test_a_pattern_without_files_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="matches no file"):
        checked(tmp_path, [{"format": "jsonl", "path": str(tmp_path / "*.jsonl")}])


def test_few_bytes_of_few_files_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        jsonl(tmp_path / f"{number:03}.jsonl", *[{**RECORD, "n": number}] * 5)
    source = {"format": "jsonl", "path": str(tmp_path / "*.jsonl")}
    opened: list[str] = []

    class Watched(FilePart):
        def __init__(self, location: str, *args: Any) -> None:
            super().__init__(location, *args)
            opened.append(Path(location).stem)

    monkeypatch.setattr(columns, "FilePart", Watched)
    assert checked(tmp_path, [source]) == ""
    assert opened == ["000"]
    opened.clear()
    assert "000.jsonl, like each of the 50 files looked at, has" in checked(
        tmp_path, [source], {"label": "kind"}
    )
    assert (len(opened), opened[0], opened[-1]) == (50, "000", "199")


def test_the_look_at_a_long_file_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = jsonl(tmp_path / "a.jsonl", *[RECORD] * 100, {**RECORD, "late": "x"})
    assert checked(tmp_path, [source], {"label": "late"}) == ""
    monkeypatch.setattr(columns, "LOOKED_BYTES", 1000)
    assert "no column 'late'" in checked(tmp_path, [source], {"label": "late"})
    monkeypatch.setattr(columns, "LOOKED_BYTES", 1 << 20)
    assert checked(tmp_path, [source], {"label": "late"}) == ""
    monkeypatch.setattr(columns, "LOOKED_RECORDS", 100)
    assert "no column 'late'" in checked(tmp_path, [source], {"label": "late"})


def test_names_cannot_break_the_line(tmp_path: Path) -> None:
    record = {"a\nb": 1, "\ud800": 1, "\x1b[31m": 1, "x" * 100: 1} | {f"c{n}": 1 for n in range(40)}
    refusal = checked(tmp_path, [jsonl(tmp_path / "a.jsonl", record)])
    assert refusal.isprintable()
    assert refusal.encode()
    assert "it has a\\nb, \\ud800, \\x1b[31m, xxx" in refusal
    assert ", c25, …; " in refusal


def test_pieces_are_evenly_spaced() -> None:
    pieces = [Piece(SourceFile(0, f"{n}", "", 1, None)) for n in range(1000)]
    assert evenly(pieces[:7], 7) == pieces[:7]
    chosen = [int(piece.file.path) for piece in evenly(pieces, 50)]
    assert (len(set(chosen)), chosen[0], chosen[-1]) == (50, 0, 999)
    assert {b - a for a, b in pairwise(chosen)} <= {20, 21}


def test_a_guess_is_near() -> None:
    assert nearest("Topic", ["body", "topic"]) == "topic"
    assert nearest("lable", ["body", "Label"]) == "Label"
    assert nearest("text", ["body", "topic"]) is None
