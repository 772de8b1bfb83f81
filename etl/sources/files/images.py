"""Image files: one record a file, its image, the name of its folder, and its row of a CSV beside the files.

The files are decoded where each record is checked (etl/sources/contract.py), whatever their names say.
"""

import csv
import functools
import io
import posixpath
from collections.abc import Iterator

from common import storage
from common.errors import DataError
from common.progress import log
from common.storage import Storage
from common.wording import counted
from etl.sources.content.listing import SourceFile, list_source
from etl.sources.content.streams import MAX_RECORD_BYTES
from etl.sources.contract import Contract, NotText, UntypedText
from etl.sources.files.formats import (
    LABELS,
    FilePart,
    Found,
    Rejected,
    Skipped,
    SourceFormat,
    damaged,
    read_bounded,
    rejected,
)
from schemas.sources import SourceSettings
from schemas.sources.images import Images

SHOWN = 3
"""Files in a message."""
Labels = dict[str, dict[str, object]]
"""Columns by the path of a file, relative to the folder of the labels."""


class ImageFormat(SourceFormat):
    """`format = "images"`"""

    name = "images"

    def files(self, settings: SourceSettings, index: int, options: Storage | None = None) -> list[SourceFile]:
        """Return the files of the source, that of the labels last. Raises DataError where it cannot be read."""
        assert isinstance(settings, Images)
        files = super().files(settings, index, options)
        if settings.labels is None:
            return files
        labels = labels_file(settings, index, options)
        files = [file for file in files if file.location != labels.location]
        there = {beside(file, labels) for file in files}
        rows = labels_of(settings, labels, options)
        lost = [name for name in rows if name not in there]
        if there and len(lost) == len(rows):
            named = f"`{lost[0]}`" if lost else "no row at all"
            raise DataError(
                f"none of the {len(there):,} files of the source {settings.path!r} has a row in {labels.path}, e.g. "
                f"`{min(there)}` against {named}: correct source.file or the paths in it, which are relative to its "
                "folder"
            )
        if lost:
            _warn(labels, len(lost), lost[0])
        return [*files, labels]

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected | Skipped]:
        assert isinstance(settings, Images)
        stream, reader = part.open_binary()
        raw, size = read_bounded(reader, MAX_RECORD_BYTES)
        labels = None if settings.labels is None else labels_file(settings, 0, part.options)
        if stream.damage is not None:
            yield damaged(stream, 0)
        elif labels is not None and part.file.location == labels.location:
            yield Skipped(LABELS, size)
        elif size > MAX_RECORD_BYTES:
            detail = f"the file is longer than {MAX_RECORD_BYTES:,} bytes"
            yield rejected(0, b"", "too_long", detail, size)
        else:
            folder = posixpath.basename(posixpath.dirname(_place(part.file)))
            values: dict[str, object] = {settings.image: NotText(raw), settings.folder: folder}
            if labels is not None:
                values |= labels_of(settings, labels, part.options).get(beside(part.file, labels), {})
            yield Found(0, len(raw), raw, values)


def labels_file(settings: Images, index: int, options: Storage | None) -> SourceFile:
    """Return the file of the labels. Raises DataError where the key names several."""
    assert settings.labels is not None
    found = list_source(settings.model_copy(update={"path": settings.labels}), index, options)
    if len(found) > 1:
        shown = ", ".join(file.path for file in found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
        raise DataError(f"source.labels must name one file; {settings.labels!r} matches {shown}")
    return found[0]


@functools.cache  # the files are listed several times a run
def _warn(labels: SourceFile, lost: int, example: str) -> None:
    log(
        f"  warning: {counted(lost, 'row')} of {labels.path} name files that the source does not have, such as "
        f"{example!r}"
    )


def beside(file: SourceFile, labels: SourceFile) -> str:
    """Return the path of a file relative to the folder of the labels, or all of it where it lies elsewhere."""
    return _place(file).removeprefix(posixpath.dirname(labels.location) + "/")


def _place(file: SourceFile) -> str:
    """Return where a file lies, also in an archive."""
    return file.location if file.member is None else f"{file.location}/{file.member.name}"


_KNOWN: dict[tuple[SourceFile, str], Labels] = {}


def labels_of(settings: Images, file: SourceFile, options: Storage | None) -> Labels:
    """Return the columns of each file that the labels name; a process reads them once.

    Raises DataError where they are no CSV in UTF-8 with the configured column, have one that each file has already, or
    name a file twice.
    """
    known = _KNOWN.get((file, settings.file))
    if known is None:
        _KNOWN.clear()
        known = _KNOWN[file, settings.file] = _read_labels(settings, file, options)
    return known


def _read_labels(settings: Images, file: SourceFile, options: Storage | None) -> Labels:
    try:
        text = storage.read_bytes(file.location, options).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
        reader.fieldnames = header = [name.strip() for name in reader.fieldnames or ()]
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{settings.labels}, the labels of a [[source]] of images, is no CSV in UTF-8: {error}"
        ) from error
    if len(set(header)) < len(header):
        raise DataError(f"{settings.labels}, source.labels, has two columns of one name: rename one")
    if settings.file not in header:
        raise DataError(
            f"{settings.labels}, source.labels, has no column {settings.file!r} with the paths of the files; it "
            f"has {', '.join(header) or 'no header line'}: correct source.file or source.labels"
        )
    for key, column in {"image": settings.image, "folder": settings.folder}.items():
        if column in header and column != settings.file:
            raise DataError(
                f"{settings.labels}, source.labels, has a column {column!r}, as does each file by source.{key}: rename "
                "one of them"
            )
    found: Labels = {}
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise DataError(
                f"record {number:,} of {settings.labels} has not the fields of its header: correct it"
            )
        name = row.pop(settings.file)
        if name in found:
            raise DataError(f"{settings.labels} has two rows for the file {name!r}: remove one")
        found[name] = {column: UntypedText(value) for column, value in row.items()}
    return found


FORMAT = ImageFormat()
