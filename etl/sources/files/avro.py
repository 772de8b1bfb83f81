"""Avro object container files: a record is a row, its position the number of the row in the file.

They are read by fastavro, which is not installed by default. A value of a union stands for itself, an enum for its
symbol, bytes for the UTF-8 text in them.
"""

import datetime
import importlib.util
import io
import lzma
import struct
import uuid
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import IO, Any, cast

import numpy as np
import zstandard

from common.errors import UsageError
from common.storage import Storage
from etl.sources.content.listing import SourceFile
from etl.sources.content.streams import content_limit, open_plain
from etl.sources.contract import Contract, Moment, NotScalar, NotText, Number, Truth, WithNames
from etl.sources.files.formats import FilePart, Found, Rejected, SourceFormat
from etl.sources.files.parquet import checked_row, size_of_row, too_large
from etl.sources.paths import MISSING, Step, look_up, nested_names
from etl.sources.times import written
from schemas.sources import SourceSettings

DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
    zstandard.ZstdError,
)
"""Errors with which fastavro meets bytes that are no Avro."""


class AvroFormat(SourceFormat):
    """`format = "avro"`"""

    name = "avro"
    random_access = True

    def files(self, settings: SourceSettings, index: int, options: Storage | None = None) -> list[SourceFile]:
        """Return the files of the source. Raises UsageError where fastavro is not installed."""
        if importlib.util.find_spec("fastavro") is None:
            raise UsageError(
                'format = "avro" needs the package fastavro, here and on all executors: pip install "ringlake[avro]"'
            )
        return super().files(settings, index, options)

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected]:
        import fastavro
        from fastavro.schema import SchemaParseException, parse_schema

        position = given = part.rows = 0
        try:
            with open_plain(part.location, part.options) as file:
                size = file.seek(0, io.SEEK_END)
                limit = content_limit(size, part.max_expansion)
                file.seek(0)
                records = fastavro.reader(cast(IO[Any], Bounded(file, size)))
                named: dict[str, Any] = {}
                schema = parse_schema(cast(Any, records.writer_schema), named)
                floats = frozenset(
                    name for name in contract.needed if is_float(schema, name, contract, named)
                )
                for record in records:
                    found = _row(position, record, contract, floats)
                    given += size_of_row(found)
                    if limit is not None and given > limit:
                        yield too_large(position, part.max_expansion, 0)
                        return
                    position = part.rows = position + 1  # how many there are shows at the end alone
                    yield found
        except (OSError, SchemaParseException, *DAMAGE) as error:
            kind = "cannot be read" if getattr(error, "errno", None) else "is not Avro or is damaged"
            if "need to install" in str(error):  # said of a codec
                kind = f"needs another package ({error}): it cannot be read"
            detail = f"the file {kind} from row {position:,} on"
            yield Rejected(position, b"", "unreadable_file", detail, damaged=True)


class Bounded:
    """File of which no more bytes are asked for than are left, whatever length a damaged block claims to have."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(content)
        return content


def is_float(schema: Any, name: str, contract: Contract, named: Mapping[str, Any]) -> bool:
    """Return True where a schema has numbers of single precision, and none of double, in a column."""
    kinds = list(_below([schema], name, named))
    if not kinds:
        kinds = [schema]
        for step in contract.paths.get(name, ()):
            kinds = list(_below(kinds, step, named))
    names = [kind["type"] if isinstance(kind, dict) else kind for kind in _resolved(kinds, named)]
    return "float" in names and "double" not in names


def _below(kinds: Iterable[Any], step: Step, named: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas that a step leads to from any of the given ones."""
    for kind in _resolved(kinds, named):
        if not isinstance(kind, dict):
            continue
        if isinstance(step, int):
            yield from [kind["items"]] if kind["type"] == "array" else []
        elif kind["type"] == "map":
            yield kind["values"]
        else:
            yield from (field["type"] for field in kind.get("fields", ()) if field["name"] == step)


def _resolved(kinds: Iterable[Any], named: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas in unions by themselves, and those that are named in full."""
    for kind in kinds:
        for one in kind if isinstance(kind, list) else [kind]:
            yield named.get(one, one) if isinstance(one, str) else one


def _row(position: int, record: Any, contract: Contract, floats: Collection[str]) -> Found | Rejected:
    if not isinstance(record, dict):
        return Rejected(position, b"{}", "not_an_object", "the schema of the file is not that of a record")
    values: dict[str, object] = {}
    for name in contract.needed:
        value = record.get(name, MISSING)
        if value is MISSING and name in contract.paths:
            value = look_up(record, contract.paths[name])
        if value is not MISSING:
            is_single = isinstance(value, float) and name in floats
            # The shortest digits that mean it, not those of the double that Python makes of it.
            values[name] = Number(str(np.float32(value))) if is_single else _scalar(value)
    if any(name not in values for name in contract.required):
        values = WithNames(values, lambda: nested_names(record))
    return checked_row(position, values)


def _scalar(value: object) -> object:
    """Return a value in the types of the contract."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return Truth("true" if value else "false")
    if isinstance(value, Decimal):
        return Number(f"{value:f}")
    if isinstance(value, int | float):
        return Number(value)
    if isinstance(value, datetime.datetime):  # of a zone, UTC alone
        zone = "" if value.tzinfo is None else "Z"
        return Moment(written(value.replace(tzinfo=None).isoformat(), zone))
    if isinstance(value, datetime.date | datetime.time):
        return Moment(written(value.isoformat()))
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return NotText(value)
    return NotScalar()


FORMAT = AvroFormat()
