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
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any, cast

import zstandard

from common.errors import UsageError
from common.storage import Storage
from etl.sources.contract import Contract, Moment, NotScalar, NotText, Number, Truth, WithNames
from etl.sources.files.formats import FilePart, Found, Rejected, SourceFormat
from etl.sources.files.listing import SourceFile
from etl.sources.files.parquet import checked_row, size_of_row, too_large
from etl.sources.files.streams import content_limit, open_plain
from etl.sources.paths import MISSING, look_up, nested_names
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
        from fastavro.schema import SchemaParseException

        position = given = part.rows = 0
        try:
            with open_plain(part.location, part.options) as file:
                size = file.seek(0, io.SEEK_END)
                limit = content_limit(size, part.max_expansion)
                file.seek(0)
                for record in fastavro.reader(cast(IO[Any], Bounded(file, size))):
                    found = _row(position, record, contract)
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


def _row(position: int, record: Any, contract: Contract) -> Found | Rejected:
    if not isinstance(record, dict):
        return Rejected(position, b"{}", "not_an_object", "the schema of the file is not that of a record")
    values: dict[str, object] = {}
    for name in contract.needed:
        value = record.get(name, MISSING)
        if value is MISSING and name in contract.paths:
            value = look_up(record, contract.paths[name])
        if value is not MISSING:
            values[name] = _scalar(value)
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
    if isinstance(value, datetime.date):  # as is a date with a time
        return Moment(value.isoformat())
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return NotText()
    return NotScalar()


FORMAT = AvroFormat()
