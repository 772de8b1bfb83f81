"""Files of every format with any line ends, encodings, quotes and damage.

Their content is accounted for to the last byte, which `read_rows` checks; the records of a whole file are those of an
independent parser, and stand where their positions say. A format is added to this by a strategy in WRITTEN.
"""

import csv
import importlib.util
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import orc

from etl.sources.files.formats import Found
from tests.etl.sources.source_files import configuration, read_rows

COLUMNS = ("id", "label", "text")
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0\ufeff", exclude_categories=["Cs"])
TEXT = st.text(st.one_of(st.sampled_from("ab \"',;|\t\n\\é€#{}[]:="), CHARACTERS), max_size=12)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, TEXT)), max_size=8)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030", "cp1252", "cp932")
SPACE = st.sampled_from(["", " ", "\n", "\r\n", "\t"])


class Written(NamedTuple):
    """File: its content, the settings that read it, and the records that an independent parser finds in it."""

    content: bytes
    settings: Mapping[str, Any]
    records: list[dict[str, str]]


@st.composite
def rows_in(draw: st.DrawFn) -> tuple[list[dict[str, str]], str]:
    """Return rows of what an encoding can hold, and the encoding."""
    name = draw(st.sampled_from(ENCODINGS))
    rows = draw(ROWS)
    return [
        {key: text.encode(name, "ignore").decode(name) for key, text in row.items()} for row in rows
    ], name


def setting(name: str) -> str:
    """Return the encoding to configure: a byte order mark is found in UTF-8."""
    return "utf-8" if name == "utf-8-sig" else name


@st.composite
def comma_separated(draw: st.DrawFn) -> Written:
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    quoting: Literal[0, 1] = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    drawn, encoding = draw(rows_in())
    rows = [{name: text.replace("\r", "") for name, text in row.items()} for row in drawn]
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(COLUMNS)
    writer.writerows(row.values() for row in rows)
    header, *found = csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=delimiter, strict=True)
    assert tuple(header) == COLUMNS
    # A row of delimiters alone is none.
    records = [dict(zip(COLUMNS, row, strict=True)) for row in found if any(row) or quoting == csv.QUOTE_ALL]
    more = {
        "delimiter": draw(st.sampled_from([delimiter, "auto"])),
        "line_end": "cr" if end == "\r" else "auto",
    }
    content = file.getvalue().encode(encoding)
    return Written(content, {"format": "csv", "encoding": setting(encoding), **more}, records)


@st.composite
def json_lines(draw: st.DrawFn) -> Written:
    end = draw(st.sampled_from(["\n", "\r\n", " \n\n"]))
    plain = draw(st.booleans())
    rows, encoding = draw(rows_in())
    text = "".join(json.dumps(row, ensure_ascii=plain) + end for row in rows)
    records = [json.loads(line) for line in text.split("\n") if line.strip()]
    return Written(text.encode(encoding), {"format": "jsonl", "encoding": setting(encoding)}, records)


@st.composite
def json_array(draw: st.DrawFn) -> Written:
    rows, encoding = draw(rows_in())
    text = json.dumps(rows, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 0, 2])))
    text += draw(SPACE)
    return Written(text.encode(encoding), {"format": "json", "encoding": setting(encoding)}, json.loads(text))


def of_table(kind: str, write: Callable[[pa.Table, io.BytesIO], None]) -> st.SearchStrategy[Written]:
    """Return files that pyarrow writes, and reads."""

    def written(rows: list[dict[str, str]]) -> Written:
        table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in COLUMNS]))
        file = io.BytesIO()
        write(table, file)
        return Written(file.getvalue(), {"format": kind}, table.to_pylist())

    return ROWS.map(written)


def write_parquet(table: pa.Table, file: io.BytesIO) -> None:
    pq.write_table(table, file, row_group_size=3)


AVRO = {"type": "record", "name": "row", "fields": [{"name": name, "type": "string"} for name in COLUMNS]}


def write_avro(table: pa.Table, file: io.BytesIO) -> None:
    fastavro = importlib.import_module("fastavro")
    fastavro.writer(file, AVRO, table.to_pylist(), codec="deflate", sync_interval=50)


WRITTEN: Mapping[str, st.SearchStrategy[Written]] = {
    "csv": comma_separated(),
    "jsonl": json_lines(),
    "json": json_array(),
    "parquet": of_table("parquet", write_parquet),
    "orc": of_table("orc", orc.write_table),
    **({"avro": of_table("avro", write_avro)} if importlib.util.find_spec("fastavro") else {}),
}
EACH = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(folder: Path, written: Written, content: bytes) -> list[Any]:
    file = folder / "a"
    file.write_bytes(content)
    config = configuration(folder, [{"path": str(file), **written.settings}])
    return read_rows(config, file)


@pytest.mark.parametrize("kind", WRITTEN)
@EACH
@given(st.data())
def test_records_are_those_of_an_independent_parser(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    written = data.draw(WRITTEN[kind])
    rows = read(tmp_path, written, written.content)
    assert all(isinstance(row, Found) for row in rows)
    assert [{name: str(row.values[name]) for name in COLUMNS} for row in rows] == written.records
    encoding = written.settings.get("encoding", "utf-8")
    for row in rows:
        if row.length:
            raw = written.content[row.position : row.position + row.length]
            wide = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, encoding)
            expected = row.raw.decode().removeprefix("\ufeff")
            ended = expected.replace("\n", "\r") if written.settings.get("line_end") == "cr" else expected
            assert raw.decode(wide).removeprefix("\ufeff").replace("\r", "\n") == ended.replace("\r", "\n")


@pytest.mark.parametrize("kind", WRITTEN)
@EACH
@given(st.data())
def test_damage_loses_nothing_in_silence(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    written = data.draw(WRITTEN[kind])
    content = bytearray(written.content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        noise = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"\r", b"\n", b"\\", b"\xff", b"{", b"]"])
        )
        content[place : place + data.draw(st.integers(0, 4))] = noise
    read(tmp_path, written, bytes(content[: data.draw(st.integers(0, len(content)))]))
