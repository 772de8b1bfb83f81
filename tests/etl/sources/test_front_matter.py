"""Text files with front matter: the columns they give, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from etl.sources.contract import Moment, NotScalar, Number
from etl.sources.files.formats import Found, Rejected
from etl.sources.files.front_matter import MAX_FRONT_MATTER, parse_file
from schemas.sources.front_matter import FrontMatter
from tests.etl.sources.source_files import configuration, read_rows

SETTINGS = FrontMatter.model_validate(
    {
        "format": "front_matter",
        "path": "*",
        "first_true": {"column": "label", "keys": {"is_b": "b", "is_a": "a"}},
    }
)


def parse(content: bytes) -> Found | Rejected:
    return parse_file(content, SETTINGS)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (
            b"---\nis_a: yes\nis_b: no\n---\nText\n",
            {"is_a": True, "is_b": False, "label": "a", "text": "Text\n"},
        ),
        (
            b"\xef\xbb\xbf--- \r\nis_a: yes\r\nis_b: on\r\n---\r\n\r\nT",
            {"is_a": True, "is_b": True, "label": "b", "text": "\r\nT"},
        ),
        (b"---\nis_a: 'yes'\n---\nT---\n---\n", {"is_a": "yes", "text": "T---\n---\n"}),
        (b"---\n---\nT", {"text": "T"}),
        (b"---\nk: v\n---", {"k": "v"}),
        (b"---\nn:\n? [a]\n: b\n---\nT", {"n": None, "text": "T"}),
    ],
)
def test_keys_and_text_become_columns(content: bytes, values: dict[str, object]) -> None:
    assert parse(content) == Found(0, len(content), content, values)


def test_values_keep_their_types_and_their_writing() -> None:
    row = parse(
        b"---\nd: 2020-01-02\ni: 0x1F\nf: 1_0.50\nl: [a]\nm: {a: b}\nt: !!python/name:os.system x\n---\nT"
    )
    assert isinstance(row, Found)
    shown: dict[str, Any] = {
        key: (type(value), str(value)) for key, value in row.values.items() if isinstance(value, str)
    }
    assert shown == {
        "d": (Moment, "2020-01-02"),
        "i": (Number, "0x1F"),
        "f": (Number, "1_0.50"),
        "text": (str, "T"),
    }
    assert {key for key, value in row.values.items() if isinstance(value, NotScalar)} == {"l", "m", "t"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no_front_matter"),
        (b"Text\n---\n", "no_front_matter"),
        (b"---\na: b\nText", "no_front_matter"),
        (b"----\na: b\n---\nT", "no_front_matter"),
        (b"---\na: [\n---\nT", "invalid_yaml"),
        (b"---\n- a\n---\nT", "invalid_yaml"),
        (b"---\njust words\n---\nT", "invalid_yaml"),
        (b"---\na: *nothing\n---\nT", "invalid_yaml"),
        (b"---\na: \x01\n---\nT", "invalid_yaml"),
        (b"---\na: " + b"[" * 100_000 + b"\n---\nT", "too_deep"),
        (b"---\n" + b"- " * 100_000 + b"a\n---\nT", "too_deep"),
        (b"---\na: " + b"{a: " * 100_000 + b"\n---\nT", "too_deep"),
        (b"---\na: 1\na: 2\n---\nT", "duplicate_key"),
        (b"---\ntext: 1\n---\nT", "duplicate_key"),
        (b"---\nlabel: 1\n---\nT", "duplicate_key"),
        (b"---\na: \xff\n---\nT", "invalid_utf8"),
        (b"---\na: " + b"b" * MAX_FRONT_MATTER + b"\n---\nT", "too_long"),
    ],
)
def test_other_files_are_rejected_with_their_bytes(content: bytes, reason: str) -> None:
    row = parse(content)
    assert isinstance(row, Rejected)
    assert (row.reason, row.position, row.raw) == (reason, 0, content)


def test_otherwise_fills_the_column_where_no_key_is_true(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"---\nis_a: no\n---\nT")
    first_true = {"column": "label", "keys": {"is_a": "a"}, "otherwise": "none"}
    source = {"format": "front_matter", "path": str(file), "first_true": first_true}
    (row,) = read_rows(configuration(tmp_path, [source]), file)
    assert isinstance(row, Found)
    assert row.values == {"is_a": False, "label": "none", "text": "T"}
