"""Looking at the quarantine, exporting it, repairing it, and ingesting it again."""

import json
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from common.errors import DataError, UsageError
from etl.lake.tables import read_table
from etl.quarantine import main
from etl.reporting.rejects import masked
from etl.rules.personal_data import Mask
from etl.runs.run import Run
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import QUARANTINE, Reader
from etl.sources.rejects import PLACE, export, quarantined
from etl.stages.ingest import ingest
from schemas.cleaning import Clean
from schemas.config import Configuration
from schemas.tables import Layout
from tests.etl.sources.source_files import configuration

FILES = {
    "a.jsonl": b'{"id": "a", "label": "x", "text": "good"}\n'
    b'{"id": "b", "label": "x", "text": "of joe@example.org"\n'
    b"[1]\n",
    "sub/b.jsonl": b'{"id": "c", "label": "x", "text": "\xff of joe\\u0040example.org"}\n',
    "c.csv": b'"id",label,text\nd,x\ne,x,good\nf,x,"never closed',
}


@pytest.fixture
def config(spark: SparkSession, tmp_path: Path) -> Configuration:
    """Ingest files with three good records and six for the quarantine."""
    folder = tmp_path / "files"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    pq.write_table(
        pa.table({"id": ["g", "h"], "label": ["x", None], "text": ["good", "u"]}), folder / "d.parquet"
    )
    (folder / "e.jsonl.gz").write_bytes(b"\xffno gzip")
    sources = [
        {"format": "jsonl", "path": f"{folder}/**/*.jsonl{{,.gz}}"},
        {"format": "csv", "path": f"{folder}/*.csv"},
        {"format": "parquet", "path": f"{folder}/*.parquet"},
    ]
    config = configuration(tmp_path, sources)
    assert (
        ingest(Run(spark, config)).items()
        >= {"files": 5, "records_in": 10, "records": 3, "quarantined": 7}.items()
    )
    return config


def toml(config: Configuration, folder: Path) -> str:
    """Write a file equivalent to a configuration."""
    lines = [f'[dataset]\nname = "{config.dataset.name}"\nroot = "{config.dataset.root}"']
    lines += [f'[[source]]\nformat = "{s.format}"\npath = "{s.path}"' for s in config.source]
    lines += ['[columns]\nid = "id"\nlabel = "label"', '[[feature]]\nname = "tokens"\ncolumn = "text"']
    file = folder / "conf.toml"
    file.write_text("\n".join(lines))
    return str(file)


def test_reasons_and_masked_records_are_shown(
    config: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = toml(config, tmp_path)
    assert main(["--config", file]) == 0
    shown = capsys.readouterr().out
    assert "7 records in quarantine" in shown
    for reason in (
        "invalid_json",
        "not_an_object",
        "invalid_utf8",
        "wrong_field_count",
        "unclosed_quote",
        "null_value",
    ):
        assert f"\n{reason}: 1\n" in shown
    assert "  a.jsonl, at 42: not JSON at character" in shown
    assert shown.count("<email>") == 2
    assert "joe" not in shown
    assert main(["--config", file, "--reason", "null_value", "--examples", "0"]) == 0
    assert capsys.readouterr().out == "1 record in quarantine\n\nnull_value: 1\n"
    with pytest.raises(
        UsageError, match="nothing is in quarantine for the reason 'typo'; there is invalid_json, "
    ):
        main(["--config", file, "--reason", "typo"])


def test_what_was_exported_and_mended_is_read_like_any_record(
    spark: SparkSession, config: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mended"
    assert main(["--config", toml(config, tmp_path), "--export", str(folder)]) == 0
    said = "".join(capsys.readouterr())
    assert "6 records exported" in said
    assert "1 records are not among them, since their file could not be read" in said
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    lines = FILES["a.jsonl"].splitlines(keepends=True)
    assert sorted(files["0/a.jsonl"].read_bytes().splitlines(keepends=True)) == sorted(lines[1:])
    assert {name: path.read_bytes() for name, path in files.items() if name != "0/a.jsonl"} == {
        "0/sub/b.jsonl": FILES["sub/b.jsonl"],
        "1/c.csv": b'"id",label,text\nd,x\nf,x,"never closed\n',
        "2/d.parquet.jsonl": b'{"id": "h", "label": null, "text": "u"}\n',
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}

    (folder / "0/a.jsonl").write_bytes(lines[1][:-1] + b"}\n")
    (folder / "0/sub/b.jsonl").write_bytes(FILES["sub/b.jsonl"].replace(b"\xff", b"y"))
    (folder / "1/c.csv").write_bytes(b'"id",label,text\nd,x,t\nf,x,"closed"\n')
    row = json.loads((folder / "2/d.parquet.jsonl").read_bytes())
    (folder / "2/d.parquet.jsonl").write_text(json.dumps({**row, "label": "x"}))
    more = [
        {"format": "jsonl", "path": f"{folder}/**/*.jsonl"},
        {"format": "csv", "path": f"{folder}/**/*.csv"},
    ]
    both = configuration(tmp_path, [source.model_dump() for source in config.source] + more)
    assert (
        ingest(Run(spark, both)).items()
        >= {"files": 9, "records_in": 15, "records": 8, "quarantined": 7}.items()
    )
    ids = {row[0] for row in read_table(spark, Layout.of(both).records).select("record_id").collect()}
    assert ids == set("abcdefgh")


def test_nothing_is_exported_over_other_files_or_without_a_header(
    config: Configuration, tmp_path: Path
) -> None:
    table, rows = quarantined(config)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mended.jsonl").write_text("")
    with pytest.raises(UsageError, match="full is not empty"):
        export(config, table, rows, tmp_path / "full")
    (tmp_path / "files/c.csv").rename(tmp_path / "files/x.csv")
    with pytest.raises(DataError, match=r"c\.csv is no longer there, so that the header"):
        export(config, table, rows, tmp_path / "new")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_header_that_is_quarantined_itself_is_exported_once(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("#id,label,text\n1,x,é\n2,y,u\n".encode(encoding))
    source = {"format": "csv", "path": f"{tmp_path}/*.csv", "comment": "#", "encoding": encoding}
    config = configuration(tmp_path, [source])
    outcomes = pa.Table.from_batches(Reader(config).batches(0, list_pieces(config)))
    rows = outcomes.filter(pc.equal(outcomes["kind"], QUARANTINE))
    write_deltalake(tmp_path / "table", rows.select([*PLACE, "reason", "detail", "raw"]))
    assert export(config, DeltaTable(tmp_path / "table"), rows, tmp_path / "out") == {"exported": 2}
    assert (tmp_path / "out/0/a.csv").read_text().splitlines() == ["1,x,é", "2,y,u"]


def test_filtered_records_are_shown_by_their_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, [{"format": "jsonl", "path": "*.jsonl"}])
    file = toml(config, tmp_path)
    with pytest.raises(UsageError, match="run the stage clean first"):
        main(["--config", file, "--filtered"])
    rows = [("a.jsonl", 0, "length", "of joe@example.org"), ("a.jsonl", 9, None, "kept")]
    names = ["source_path", "source_position", "filtered_by", "text"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    write_deltalake(
        Layout.of(config).fields, pa.table({"source_index": pa.array([0, 0], pa.int32()), **columns})
    )
    assert main(["--config", file, "--filtered"]) == 0
    assert capsys.readouterr().out == "1 record filtered\n\nlength: 1\n  a.jsonl, at 0\n    of <email>\n"
    with pytest.raises(UsageError, match="nothing was filtered by the rule 'typo'; there is length"):
        main(["--config", file, "--filtered", "--reason", "typo"])
    with pytest.raises(SystemExit):
        main(["--config", file, "--filtered", "--export", str(tmp_path / "x")])


def test_before_anything_was_ingested_there_is_nothing_to_show(tmp_path: Path) -> None:
    config = configuration(tmp_path, [{"format": "jsonl", "path": "*.jsonl"}])
    with pytest.raises(UsageError, match="run the stage ingest first"):
        quarantined(config)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"of joe@example.org", "of <email>"),
        (rb"of joe\u0040example.org", "of <email>"),
        (b"of joe&#64;example.org", "of <email>"),
        (rb"call\n650-253-0000\tor 4111111111111111", "call↵<phone>⇥or <card>"),
        ("joe@example.org".encode("utf-16"), "(not shown: it holds NUL bytes)"),
        (rb"half \ud800 of a pair, and \ud83d\ude00", "half \ufffd of a pair, and \U0001f600"),
        (b"\xff\n\x01", "\\xff↵[U+0001]"),
        ("of ana\u200b@x.org, 4111\u20031111\u20031111\u20031111".encode(), "of <email>, <card>"),
        ("of joe@example.org \u200b\x01".encode(), "of <email> [U+200B][U+0001]"),
    ],
)
def test_masks_look_behind_escapes(raw: bytes, shown: str) -> None:
    assert masked(raw, Mask(Clean())) == shown
