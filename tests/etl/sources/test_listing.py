"""Patterns, roots, pieces."""

import errno
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from common.errors import DataError, UsageError
from common.storage import read_bytes
from etl.sources.content.listing import (
    NO_FILE,
    OUTSIDE,
    SourceFile,
    expand_braces,
    list_source,
    partition_columns,
)
from etl.sources.files.formats import formats
from etl.sources.files.pieces import Piece, cut, group, list_pieces
from etl.sources.reading import RECORD, Reader
from schemas.sources.jsonl import JsonLines
from tests.etl.sources.source_files import configuration

FILES = (
    "a.jsonl",
    "b.csv",
    "x/a.jsonl",
    "x/y/c.jsonl",
    "x/y/d1.jsonl",
    "x/.hidden.jsonl",
    ".z/e.jsonl",
    "[1].jsonl",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "x/y/loop").symlink_to(tmp_path)
    return tmp_path


def paths(folder: Path, pattern: str, root: str | None = None) -> list[str]:
    source = JsonLines(format="jsonl", path=f"{folder}/{pattern}", root=root)
    return [file.path for file in list_source(source, 0)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl", ["[1].jsonl", "a.jsonl"]),
        ("**/*.jsonl", ["[1].jsonl", "a.jsonl", "x/a.jsonl", "x/y/c.jsonl", "x/y/d1.jsonl"]),
        ("x/**", ["a.jsonl", "y/c.jsonl", "y/d1.jsonl"]),
        ("x/**/y/*.jsonl", ["y/c.jsonl", "y/d1.jsonl"]),
        ("*/*.jsonl", ["x/a.jsonl"]),
        ("{x/,}a.{jsonl,csv}", ["a.jsonl", "x/a.jsonl"]),
        ("x/y/d[0-9].jsonl", ["d1.jsonl"]),
        ("x/y/[!d]*", ["c.jsonl"]),
        ("?.csv", ["b.csv"]),
        ("[1].jsonl", ["[1].jsonl"]),
        ("a.jsonl", ["a.jsonl"]),
        (".z/*", ["e.jsonl"]),
    ],
)
def test_patterns_match_as_in_a_shell(folder: Path, pattern: str, expected: list[str]) -> None:
    assert paths(folder, pattern) == expected


@pytest.mark.parametrize(
    "name", ["[2024] #1 50% = é", "{a,b}", "[ab]", "a{b", "#1", "50%20", "a\\b", "a:b", "a::b"]
)
def test_a_folder_at_the_beginning_of_a_pattern_has_the_name_that_is_written(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (name, "a", "2"):
        (tmp_path / folder / "sub [1]").mkdir(parents=True)
        (tmp_path / folder / "a.jsonl").write_text(folder)
        (tmp_path / folder / "sub [1]" / "b.jsonl").write_text(folder)
    expected = ["a.jsonl", "sub [1]/b.jsonl"]
    assert paths(tmp_path, f"{name}/**/*.jsonl") == expected
    assert paths(tmp_path, f"{name}/sub [1]/*.jsonl") == ["b.jsonl"]
    assert paths(tmp_path, f"{name}/sub [[]1]/*.jsonl", str(tmp_path / name)) == ["sub [1]/b.jsonl"]
    monkeypatch.chdir(tmp_path / name)  # and so it is with the working folder
    (found,) = list_source(JsonLines(format="jsonl", path="*.jsonl"), 0)
    assert (found.path, read_bytes(found.location)) == ("a.jsonl", name.encode())


def test_a_pattern_with_brackets_that_matches_nothing_says_how_a_bracket_is_written(folder: Path) -> None:
    with pytest.raises(DataError, match=r"a bracket that is part of a name is written \[\[\]\)$"):
        paths(folder, "x [2024]*/*.jsonl")


def test_links_out_of_the_source_are_listed_with_an_obstacle_unless_they_are_to_be_followed(
    tmp_path: Path,
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside, inside / "sub"):
        folder.mkdir()
        (folder / "a.jsonl").write_text("text")
    (inside / "out.jsonl").symlink_to(outside / "a.jsonl")
    (inside / "in.jsonl").symlink_to(inside / "a.jsonl")
    (inside / "linked").symlink_to(outside)
    (inside / "inner").symlink_to(inside / "sub")
    source = JsonLines(format="jsonl", path=f"{inside}/{{,*/}}*.jsonl")
    assert {file.path: file.obstacle for file in list_source(source, 0)} == {
        "a.jsonl": None,
        "in.jsonl": None,
        "inner/a.jsonl": None,
        "linked/a.jsonl": OUTSIDE,
        "out.jsonl": OUTSIDE,
        "sub/a.jsonl": None,
    }
    followed = source.model_copy(update={"follow_links": True})
    assert {file.obstacle for file in list_source(followed, 0)} == {None}
    (tmp_path / "root").symlink_to(inside)  # the root itself may be a link, and so may a named file
    for pattern in ("root/*.jsonl", "in/out.jsonl"):
        files = list_source(JsonLines(format="jsonl", path=f"{tmp_path}/{pattern}"), 0)
        assert files[0].obstacle is None


def test_what_cannot_be_opened_is_listed_with_an_obstacle(tmp_path: Path) -> None:
    (tmp_path / "nowhere.jsonl").symlink_to(tmp_path / "gone")
    (tmp_path / "itself.jsonl").symlink_to(tmp_path / "itself.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    files = list_source(JsonLines(format="jsonl", path=f"{tmp_path}/*.jsonl"), 0)
    details = {file.path: file.obstacle.detail for file in files if file.obstacle is not None}
    assert details == {
        "itself.jsonl": "it leads to no file (Too many levels of symbolic links)",
        "nowhere.jsonl": "it leads to no file (No such file or directory)",
        "pipe.jsonl": "it is a named pipe, a socket or a device, and no file",
    }
    (named,) = list_source(JsonLines(format="jsonl", path=f"{tmp_path}/pipe.jsonl"), 0)
    assert named.obstacle == NO_FILE


@pytest.mark.parametrize("seconds", [1e18, -1e18, 1e12, -1e11, float(2**63)])
def test_a_time_that_no_calendar_has_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    (tmp_path / "a.jsonl").write_text("text")
    status = list(os.stat(tmp_path / "a.jsonl"))
    absurd = os.stat_result([*status, seconds, seconds, seconds])
    assert absurd.st_mtime == seconds
    with monkeypatch.context() as patched:
        patched.setattr("etl.sources.content.listing.os.stat", lambda _: absurd)
        (file,) = list_source(JsonLines(format="jsonl", path=f"{tmp_path}/a.jsonl"), 0)
    assert (file.bytes, file.modified, file.obstacle) == (4, None, None)


def test_a_folder_that_cannot_be_listed_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("etl.sources.content.listing.os.scandir", refused)
    with pytest.raises(
        DataError, match=r"cannot be listed: Permission denied; check its permissions, or let"
    ):
        paths(tmp_path, "*.jsonl")


def test_a_configured_root_shortens_the_paths(folder: Path) -> None:
    assert paths(folder, "x/y/c*", str(folder)) == ["x/y/c.jsonl"]
    with pytest.raises(UsageError, match="is not below the root"):
        paths(folder, "a.jsonl", str(folder / "x"))


def test_a_pattern_without_files_is_an_error_that_names_it(folder: Path) -> None:
    with pytest.raises(DataError, match=r"nothing/\*\.jsonl' .* matches no file"):
        paths(folder, "nothing/*.jsonl")
    with pytest.raises(UsageError, match="is a folder"):
        paths(folder, "x")


def test_patterns_may_be_uris() -> None:
    file_system = fsspec.filesystem("memory")
    for name in ("in/x/a.jsonl", "in/b.jsonl", "in/c.csv"):
        file_system.pipe(f"/ringlake-listing/{name}", b"text")
    for pattern, expected in {
        "in/**/*.jsonl": ["b.jsonl", "x/a.jsonl"],
        "in/x/a.jsonl": ["a.jsonl"],
        "in/{b,c}.*": ["b.jsonl", "c.csv"],
    }.items():
        files = list_source(JsonLines(format="jsonl", path=f"memory://ringlake-listing/{pattern}"), 0)
        assert [file.path for file in files] == expected
        assert {(read_bytes(file.location), file.bytes) for file in files} == {(b"text", 4)}


def test_braces_unfold_also_within_each_other() -> None:
    assert expand_braces("a{b,c{d,e}}{f,}") == ["abf", "ab", "acdf", "acd", "acef", "ace"]
    assert expand_braces("a{b") == ["a{b"]


def test_a_file_that_two_sources_name_has_different_twins(folder: Path) -> None:
    source = {"format": "jsonl", "path": f"{folder}/a.jsonl"}
    pieces = list_pieces(configuration(folder, [source, source]))
    assert [(piece.file.source_index, piece.file.path, piece.file.twin) for piece in pieces] == [
        (0, "a.jsonl", 0),
        (1, "a.jsonl", 1),
    ]


def file(size: int, name: str = "a.jsonl") -> SourceFile:
    return SourceFile(0, name, name, size, None)


def test_large_plain_files_are_cut_and_hashed_apart() -> None:
    big = file(100 << 20)
    pieces = list(cut(big, formats()["jsonl"]))
    assert [(p.start, p.end, p.hash_only) for p in pieces] == [
        (0, 25 << 20, False),
        (25 << 20, 50 << 20, False),
        (50 << 20, 75 << 20, False),
        (75 << 20, 100 << 20, False),
        (0, None, True),
    ]
    packed = file(100 << 20, "a.jsonl.gz")
    assert list(cut(packed, formats()["jsonl"])) == [Piece(packed)]
    assert list(cut(big, formats()["csv"])) == [Piece(big)]


def test_small_files_share_tasks() -> None:
    pieces = [Piece(file(1000, str(i))) for i in range(30_000)]
    tasks = group(pieces, cores=2)
    assert [piece for task in tasks for piece in task] == pieces
    assert len(tasks) == 8
    assert max(map(len, tasks)) - min(map(len, tasks)) < 10


def test_every_format_of_the_configuration_has_a_module() -> None:
    assert set(formats()) == {
        "jsonl",
        "json",
        "csv",
        "parquet",
        "orc",
        "avro",
        "delta",
        "iceberg",
        "front_matter",
        "images",
        "zeek",
    }


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("label=pos/part-0.parquet", {"label": "pos"}),
        ("year=2024/month=01/a=b.jsonl", {"year": "2024", "month": "01"}),
        ("label=a%3Db%2Fc/x", {"label": "a=b/c"}),
        ("label=gr%C3%BCn/x", {"label": "grün"}),
        ("label=gr%FCn/x", {"label": "grün"}),
        ("label=100%/x", {"label": "100%"}),
        ("na%20me=a=b/x", {"na me": "a=b"}),
        ("label=__HIVE_DEFAULT_PARTITION__/x", {"label": None}),
        ("label=a/label=b/x", {"label": "b"}),
        ("label=/x", {}),
        ("=x/==/plain/y", {}),
    ],
)
def test_folders_name_columns(path: str, columns: dict[str, str | None]) -> None:
    assert dict(partition_columns(path)) == columns


@pytest.mark.parametrize("name", ["csv", "jsonl", "json", "parquet", "orc", "front_matter"])
def test_files_of_every_format_are_read_from_folders_of_any_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in [2024] #1 50% = é %20 q?x {a} \\ a::b"
    folder.mkdir()
    file = folder / "a [b] #1 %20.x"
    table = pa.table({"id": ["1"], "label": ["x"], "text": ["t"]})
    if name == "parquet":
        pq.write_table(table, file)
    elif name == "orc":
        orc.write_table(table, file)
    else:
        texts = {"csv": "id,label,text\n1,x,t\n", "front_matter": "---\nid: '1'\nlabel: x\n---\nt"}
        file.write_text(texts.get(name, '{"id": "1", "label": "x", "text": "t"}\n'))
    config = configuration(tmp_path, [{"format": name, "path": f"{tmp_path}/*/*.x"}])
    batches = list(Reader(config).batches(0, list_pieces(config)))
    records = [row for batch in batches for row in batch.to_pylist() if row["kind"] == RECORD]
    assert [(row["record_id"], row["column_1"]) for row in records] == [("1", "t")]
