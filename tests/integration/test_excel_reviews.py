"""Product reviews in the files that Excel exports, from its several kinds of CSV to a published version."""

import codecs
import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from etl.lake.tables import read_table
from etl.sources.columns import check_columns
from etl.versions.building import run_stages
from schemas.config import Configuration, load
from schemas.tables import Layout

CONFIGURATION = """
[dataset]
name = "reviews"
root = "{root}/warehouse"
[[source]]
format = "csv"
path = "{root}/exports/*"
delimiter = "auto"
encoding = "auto"
[columns]
id = "number"
label = "Sterne"
[columns.rename]
number = "Artikel Nr"
[[feature]]
name = "tokens"
column = "Text"
vocabulary = 300
length = 16
"""
HEADER = ("Artikel Nr", "Sterne", "Text", "Preis")
WORDS = (
    "Gerät",
    "größer",
    "schön",
    "für",
    "Käse",
    "wär’s",
    "übel",
    '27" Bildschirm',
    "„gut“",
    "5 €",
    "ok; ja",
)


def review(number: int) -> tuple[str, str, str, str]:
    """Return a review in a cell of several lines with quotes, semicolons and signs beyond ASCII."""
    words = random.Random(number).choices(WORDS, k=12)
    text = f'Nr. {number} ist "{words[0]}":\n{" ".join(words[1:8])},\n{"-".join(words[8:])}'
    return f"A{number:03}", ("schlecht", "mäßig", "gut")[number % 3], text, f"{number},99"


def export(numbers: range, delimiter: str, encoding: str, end: str = "\r\n", first: str = "") -> bytes:
    """Return an export: in a file whose lines end in CR, line breaks within cells are LF."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(HEADER)
    writer.writerows(review(number) for number in numbers)
    empty = delimiter * (len(HEADER) - 1) + end
    return (first + file.getvalue() + 2 * empty).encode(encoding)


def write_exports(folder: Path) -> None:
    folder.mkdir()
    (folder / "a western.csv").write_bytes(export(range(30), ";", "cp1252"))
    (folder / "b unicode text.txt").write_bytes(
        codecs.BOM_UTF16_LE + export(range(30, 60), "\t", "utf-16-le")
    )
    (folder / "c utf-8.csv").write_bytes(export(range(60, 90), ";", "utf-8-sig", first="sep=;\r\n"))
    (folder / "d macintosh.csv").write_bytes(export(range(90, 120), ",", "utf-8-sig", end="\r"))
    # A quote in a cell that was typed by hand, and is never closed.
    plain = [b"B%d;gut;kurz und b\xfcndig Nummer %d;1,99" % (number, number) for number in range(20)]
    lines = [";".join(HEADER).encode(), b'A999;gut;"nie zu Ende;1,99', *plain, b""]
    (folder / "e by hand.csv").write_bytes(b"\r\n".join(lines))


def rows(spark: SparkSession, config: Configuration, table: str, *columns: str) -> list[tuple[Any, ...]]:
    frame = read_table(spark, getattr(Layout.of(config), table)).select(*columns)
    return sorted(tuple(row) for row in frame.collect())


@pytest.mark.thorough
def test_reviews_as_excel_exports_them_are_published(spark: SparkSession, tmp_path: Path) -> None:
    write_exports(tmp_path / "exports")
    (tmp_path / "conf.toml").write_text(CONFIGURATION.format(root=tmp_path))
    config = load(tmp_path / "conf.toml")
    check_columns(config)
    manifest, report = run_stages(spark, config, 0.0, again=False)

    assert manifest.content.counts["records_in"] == 141
    assert manifest.content.counts["quarantined"] == 1
    assert manifest.classes() == ["gut", "mäßig", "schlecht"]
    found = {row[0]: row[1:] for row in rows(spark, config, "records", "record_id", "Sterne", "Text")}
    assert len(found) == 140
    for number in range(120):
        key, stars, text, _ = review(number)
        assert found[key] == (stars, text)
    assert found["B7"] == ("gut", "kurz und bündig Nummer 7")
    ((path, reason, position),) = rows(
        spark, config, "quarantine", "source_path", "reason", "source_position"
    )
    assert (path, reason, position) == ("e by hand.csv", "unclosed_quote", len(";".join(HEADER)) + 2)
    files = rows(spark, config, "sources", "source_path", "encoding", "records", "skipped")
    assert [(encoding, records) for _, encoding, records, _ in files] == [
        ("cp1252", 30),
        ("utf-16-le", 30),
        ("utf-8", 30),
        ("utf-8", 30),
        ("cp1252", 21),
    ]
    skipped = [one["rule"] for one in files[2][3]]
    assert skipped == ["byte_order_mark", "empty_row", "header", "line_end", "separator_line"]
    assert "cp1252, utf-16-le, utf-8" in Path(report).read_text("utf-8")
