"""Source files in which good records stand among every kind of bad ones, and the expected outcome of each."""

import bz2
import gzip
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LARGE = 50 << 20
Line = tuple[bytes, str | None]
"""A record as it stands in a file, and the reason for its quarantine (None: it is good)."""


@dataclass
class Expected:
    """Expected outcomes: ids of good records, and the reason at each place of the others."""

    ids: set[str] = field(default_factory=set)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)


def good(key: str, text: str = "some running text", **more: object) -> bytes:
    return json.dumps({"id": key, "label": "x", "text": text, **more}).encode()


KINDS: dict[str, Callable[[str], Line]] = {
    "plain": lambda key: (good(key), None),
    "beyond ASCII": lambda key: (
        json.dumps(json.loads(good(key, "é 日本 😀")), ensure_ascii=False).encode(),
        None,
    ),
    "CRLF": lambda key: (good(key) + b"\r", None),
    "escaped NUL": lambda key: (good(key, "a\0b"), None),
    "long number in a foreign key": lambda key: (good(key)[:-1] + b', "n": ' + b"9" * 5000 + b"}", None),
    "number beyond floats": lambda key: (good(key)[:-1] + b', "n": 1e999}', None),
    "truncated JSON": lambda key: (good(key)[:-9], "invalid_json"),
    "two objects in a line": lambda key: (good(key) * 2, "invalid_json"),
    "NaN": lambda key: (good(key)[:-1] + b', "n": NaN}', "invalid_json"),
    "raw control character": lambda key: (good(key).replace(b"running", b"run\x01ning"), "invalid_json"),
    "raw NUL": lambda key: (good(key).replace(b"running", b"run\0ning"), "invalid_json"),
    "no JSON": lambda key: (b"<html>" + key.encode(), "invalid_json"),
    "array": lambda key: (b"[" + good(key) + b"]", "not_an_object"),
    "null": lambda key: (b"null", "not_an_object"),
    "label that is a number": lambda key: (good(key).replace(b'"x"', b"7"), None),
    "label of a wrong type": lambda key: (good(key).replace(b'"x"', b"[7]"), "wrong_type"),
    "text in a list": lambda key: (good(key).replace(b'"some running text"', b'["a"]'), "wrong_type"),
    "null text": lambda key: (good(key).replace(b'"some running text"', b"null"), "null_value"),
    "no text": lambda key: (json.dumps({"id": key, "label": "x"}).encode(), "missing_column"),
    "empty label": lambda key: (good(key).replace(b'"x"', b'""'), "empty_value"),
    "endless label": lambda key: (good(key).replace(b'"x"', b'"' + b"x" * 2000 + b'"'), "too_long_value"),
    "blank text": lambda key: (good(key, " \n\t "), "blank_text"),
    "invalid UTF-8": lambda key: (good(key).replace(b"running", b"r\xffnning"), "invalid_utf8"),
    "overlong UTF-8": lambda key: (good(key).replace(b"running", b"r\xc0\x80ning"), "invalid_utf8"),
    "lone surrogate": lambda key: (good(key).replace(b"running", rb"\udc00"), "lone_surrogate"),
    "duplicate key": lambda key: (good(key)[:-1] + b', "text": "other"}', "duplicate_key"),
    "nested 1,000-fold": lambda key: (
        good(key)[:-1] + b', "n": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        "too_deep",
    ),
    "opened 100,000-fold": lambda key: (good(key)[:-1] + b', "n": ' + b"[" * 100_000, "too_deep"),
}
"""Makers of bad lines, with the reason for their quarantine; bad files are below."""


def sources(folder: Path) -> list[dict[str, str]]:
    """Return the [[source]]s that read everything that `write` writes."""
    patterns = {"jsonl": "*.jsonl{,.gz,.bz2}", "csv": "*.csv", "parquet": "*.parquet"}
    return [{"format": name, "path": f"{folder}/{pattern}"} for name, pattern in patterns.items()]


def write(folder: Path, records: int, seed: int) -> Expected:
    """Write about `records` records of all kinds into files of all formats in `folder`."""
    folder.mkdir()
    expected = Expected()
    draw = random.Random(seed)
    kinds = list(KINDS)
    # Each kind a few times, and good ones for the rest.
    chosen = kinds * (records // (4 * len(kinds)) + 1)
    chosen += ["plain"] * (records - len(chosen))
    draw.shuffle(chosen)
    lines = [KINDS[kind](f"json {number}") for number, kind in enumerate(chosen)]
    third = len(lines) // 3
    _lines(folder / "plain.jsonl", lines[:third], expected)
    _lines(
        folder / "with\na line break.jsonl",
        [(b"\xef\xbb\xbf" + good("marked"), None), *lines[third : 2 * third]],
        expected,
    )
    _lines(folder / "packed.jsonl.gz", lines[2 * third :], expected, gzip.compress)
    _lines(
        Path(os.fsdecode(os.fsencode(folder) + b"/not \xff UTF-8.jsonl")), [(good("name"), None)], expected
    )
    _lines(
        folder / "large.jsonl",
        [(good("large", "word " * (LARGE // 5)), None), (good("after"), None)],
        expected,
    )
    _lines(folder / "empty.jsonl", [], expected)
    _csv(folder / "table.csv", draw, records // 20, expected)
    _parquet(folder, expected)
    _whole_files(folder, expected)
    return expected


def _lines(file: Path, lines: list[Line], expected: Expected, pack: Callable[[bytes], bytes] = bytes) -> None:
    position, content = 0, []
    name = os.fsencode(file.name).decode("utf-8", "backslashreplace")
    for line, reason in lines:
        if reason is None:
            expected.ids.add(json.loads(line.removeprefix(b"\xef\xbb\xbf"), parse_int=str)["id"])
        else:
            expected.reasons[name, position] = reason
        content.append(line + b"\n")
        position += len(line) + 1
    file.write_bytes(pack(b"".join(content)))


def _csv(file: Path, draw: random.Random, records: int, expected: Expected) -> None:
    kinds: list[Callable[[str], Line]] = [
        lambda key: (b'%s,x,"text, with\nlines and ""quotes"""' % key.encode(), None),
        lambda key: (b"%s,x,t\r" % key.encode(), None),
        lambda key: (b"%s,x" % key.encode(), "wrong_field_count"),
        lambda key: (b"%s,x,t,u,v" % key.encode(), "wrong_field_count"),
        lambda key: (b'%s,x,5" disk' % key.encode(), "misplaced_quote"),
        lambda key: (b'%s,x,"t"u' % key.encode(), "misplaced_quote"),
        lambda key: (b"%s,x,\xfe" % key.encode(), "invalid_utf8"),
        lambda key: (b"%s,,t" % key.encode(), "empty_value"),
    ]
    content = b"id,label,text\n"
    for number in range(max(records, len(kinds))):
        kind = kinds[number] if number < len(kinds) else draw.choice(kinds)
        line, reason = kind(f"csv {number}")
        if reason is None:
            expected.ids.add(f"csv {number}")
        else:
            expected.reasons[file.name, len(content)] = reason
        content += line + b"\n"
    expected.reasons[file.name, len(content)] = "unclosed_quote"
    file.write_bytes(content + b'last,x,"t\nmore,y,u\nand,more,lines')
    (file.parent / "header.csv").write_bytes(b'id,"label,text\na,b,c\n')
    expected.reasons["header.csv", 0] = "unclosed_quote"


def _parquet(folder: Path, expected: Expected) -> None:
    table = pa.table({"id": ["parquet 0", "parquet 1"], "label": ["x", None], "text": ["t", "u"]})
    pq.write_table(table, folder / "good.parquet")
    expected.ids.add("parquet 0")
    expected.reasons["good.parquet", 1] = "null_value"
    pq.write_table(pa.table({"other": [1, 2]}), folder / "other schema.parquet")
    expected.reasons |= {("other schema.parquet", row): "missing_column" for row in range(2)}
    pq.write_table(table.set_column(2, "text", pa.array([1.5, 2.5])), folder / "numbers.parquet")
    expected.reasons |= {("numbers.parquet", 0): "wrong_type", ("numbers.parquet", 1): "null_value"}
    whole = (folder / "good.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[:-20])
    (folder / "empty.parquet").write_bytes(b"")
    expected.reasons |= {(name, 0): "unreadable_file" for name in ("cut.parquet", "empty.parquet")}


def _whole_files(folder: Path, expected: Expected) -> None:
    """Write files that cannot be read, or not completely."""
    (folder / "empty.jsonl.gz").write_bytes(b"")
    (folder / "nothing packed.jsonl.gz").write_bytes(gzip.compress(b""))  # a good file without a record
    (folder / "no gzip.jsonl.gz").write_bytes(b"\xff" + good("never"))
    first = good("before the cut") + b"\n"
    whole = gzip.compress(first + os.urandom(50_000).hex().encode())
    (folder / "cut.jsonl.gz").write_bytes(whole[:-30_000])
    expected.ids.add("before the cut")
    expected.reasons |= {(name, 0): "unreadable_file" for name in ("empty.jsonl.gz", "no gzip.jsonl.gz")}
    expected.reasons["cut.jsonl.gz", len(first)] = "unreadable_file"
    # 400 MB of spaces in 400 KB, and 900 MB in less than 1 KB.
    first = good("before the bomb") + b"\n"
    (folder / "bomb.jsonl.gz").write_bytes(gzip.compress(first + b" " * (400 << 20), compresslevel=6))
    expected.ids.add("before the bomb")
    expected.reasons["bomb.jsonl.gz", len(first)] = "too_large_content"
    bomb = bz2.compress(b" " * (45 << 20)) * 20
    (folder / "bomb.jsonl.bz2").write_bytes(bomb)
    expected.reasons["bomb.jsonl.bz2", 0] = "too_large_content"
    outside = folder.parent / "secret.jsonl"
    outside.write_bytes(good("secret"))
    (folder / "link out.jsonl").symlink_to(outside)
    expected.reasons["link out.jsonl", 0] = "outside_of_source"
    (folder / "link to nowhere.jsonl").symlink_to(folder / "gone")
    (folder / "link to itself.jsonl").symlink_to(folder / "link to itself.jsonl")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "locked.jsonl").write_bytes(good("locked"))
    (folder / "locked.jsonl").chmod(0)
    names = ["link to nowhere.jsonl", "link to itself.jsonl", "pipe.jsonl"]
    if os.access(folder / "locked.jsonl", os.R_OK):  # root can still read it
        expected.ids.add("locked")
    else:
        names.append("locked.jsonl")
    expected.reasons |= {(name, 0): "unreadable_file" for name in names}
