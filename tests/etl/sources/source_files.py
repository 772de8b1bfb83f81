"""Shared by the tests of the sources: configurations, and reading files without Spark."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from etl.sources.content.encodings import UTF_8
from etl.sources.contract import Contract
from etl.sources.files.formats import FilePart, Found, Rejected, Skipped, formats
from etl.sources.reading import size_of
from schemas.config import Configuration
from schemas.sources import TextSettings


def configuration(
    root: Path,
    sources: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Any] | None = None,
    clean: Mapping[str, Any] | None = None,
) -> Configuration:
    """Return a configuration with one text feature; by default an id and a label."""
    return Configuration.model_validate(
        {
            "dataset": {"name": "example", "root": str(root / "warehouse")},
            "source": [dict(source) for source in sources],
            "columns": {"id": "id", "label": "label"} if columns is None else dict(columns),
            "feature": [{"name": "tokens", "column": "text"}],
            "clean": dict(clean or {}),
        }
    )


SMALLEST = """
[dataset]
name = "example"
root = "{root}"
[[source]]
format = "jsonl"
path = "*.jsonl"
[columns]
[[feature]]
name = "tokens"
column = "text"
"""


def write_toml(file: Path, root: str) -> Path:
    """Write a configuration for a command that needs no more than a data set of this root; return the file."""
    file.write_text(SMALLEST.format(root=root))
    return file


def read_rows(
    config: Configuration, file: Path, start: int = 0, end: int | None = None
) -> list[Found | Rejected]:
    """Return what the format of the first source reads from a file, before the contract; check its accounting."""
    settings = config.source[0]
    encoding = settings.encoding if isinstance(settings, TextSettings) else UTF_8
    part = FilePart(str(file), None, start, end, settings.max_expansion, 0, encoding)
    source_format = formats()[settings.format]
    read = list(source_format.read(part, settings, Contract(config)))
    rows = [row for row in read if not isinstance(row, Skipped)]
    if end is None:
        sizes = [
            row.size if isinstance(row, Skipped) else size_of(row, source_format.random_access)
            for row in read
        ]
        assert part.content() == sum(sizes)
    found = [part.in_file(row) for row in rows]
    part.close()
    return found


def reasons(rows: Sequence[Found | Rejected]) -> list[str | None]:
    """Return the reason of each row, None for one that was found."""
    return [None if isinstance(row, Found) else row.reason for row in rows]


def reader_of(content: bytes) -> io.BufferedReader:
    """Return a buffered reader of bytes in memory."""
    return io.BufferedReader(cast(io.RawIOBase, io.BytesIO(content)))


def write_numbered(file: Path, numbers: range) -> None:
    """Write JSON lines of two classes whose ids are the numbers."""
    records = ({"id": f"{n}", "label": "xy"[n % 2], "text": f"text {n} of {n * n} words"} for n in numbers)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
