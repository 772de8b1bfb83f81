"""Contract of a record: what the configured columns must hold, whatever the format."""

import base64
import binascii
import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from etl.images.decoding import Decoded, Pixels, Refused, of_file, of_pixels
from etl.normalisers.notations import DECIMAL
from etl.sources import times
from etl.sources.paths import hint, nested_names, paths_of
from schemas.config import Configuration
from schemas.features.number import NumberFeature

MAX_NAME = 1000
"""Characters of an id, a label or a group, which go into the ledger, the manifest and the report."""
FROM_URLS = str.maketrans("-_", "+/")
"""Letters of base64 in the variant for URLs (RFC 4648)."""


class Number(str):
    """Number exactly as the source writes it."""

    __slots__ = ()


class Moment(str):
    """Value that its format types as a date, a time or both, as ISO 8601."""

    __slots__ = ()


class UntypedText(str):
    """Text of a format without types (CSV), which may also be a number."""

    __slots__ = ()


class Truth(str):
    """Value that its format types as a truth value: `true` or `false`."""

    __slots__ = ()


class NotText:
    """Bytes that are not UTF-8: a damaged text, or an image."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes = b"") -> None:
        self.raw = raw


class NotScalar:
    """Placeholder for a list, a mapping or another value that no column may hold."""


class Duration(NotScalar):
    """Placeholder for a length of time."""


class WithNames(dict[str, object]):
    """Columns of a record, along with a way to list the names and paths of those that it has in its file."""

    __slots__ = ("names",)

    def __init__(self, values: Mapping[str, object], names: Callable[[], Iterable[str]]) -> None:
        super().__init__(values)
        self.names = names


class Accepted(NamedTuple):
    """Record that meets the contract; `values` in the order of `config.table_columns()`."""

    record_id: str
    time_seconds: float | None
    values: tuple[str | bytes | None, ...]
    """None only in the columns of typed features; images as PNG."""
    effects: tuple[str, ...] = ()
    """What decoding its images left out or changed, `<column>.<effect>` each."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Reason why a record violates the contract: a short name, and a sentence that does not repeat its content."""

    reason: str
    detail: str


class Contract:
    """The configured columns, by their names or paths in the files, and the requirements on each."""

    def __init__(self, config: Configuration) -> None:
        in_files = config.columns.in_files
        roles = (config.columns.id, config.columns.label, config.columns.group, config.columns.time)
        self.id, label, group, self.time = (None if name is None else in_files(name) for name in roles)
        self.columns = [in_files(name) for name in config.table_columns()]
        self.time_unit, self.time_format = config.columns.time_unit, config.columns.time_format
        self.texts = frozenset(map(in_files, config.text_columns()))
        self.images = {in_files(one.column): (one.column, one.max_pixels) for one in config.image_features()}
        """Name in the tables and limit in pixels of the columns of images, by name in the files."""
        self.needed = tuple(dict.fromkeys([*([self.id] if self.id is not None else []), *self.columns]))
        self.paths = paths_of(self.needed)
        """Steps of the needed columns that may be paths, by name."""
        self.typed = frozenset(map(in_files, config.typed_columns()))
        self.required = tuple(name for name in self.needed if name not in self.typed)
        self.numbers = frozenset(
            in_files(feature.column)
            for feature in config.typed_features()
            if isinstance(feature, NumberFeature)
        )
        # A column that is a text as well may be as long as one.
        self.names = frozenset({self.id, label, group}) - self.texts
        self._roles = tuple(
            (name, name == self.time, name in self.texts, MAX_NAME if name in self.names else sys.maxsize)
            for name in self.required
            if name not in self.images
        )

    def check(self, record: Mapping[str, object], path: str, twin: int, position: int) -> Accepted | Problem:
        """Check a record against the contract; the other arguments derive its id where none is configured."""
        seconds: float | None = None
        for column, is_time, is_text, longest in self._roles:
            if column not in record:
                return _missing(record, column)
            value = record[column]
            if is_time:
                result = time_in_seconds(value, self.time_unit, self.time_format)
                if isinstance(result, Problem):
                    return Problem(result.reason, f"the column {column!r} {result.detail}")
                seconds = result
            elif (
                type(value) is str
                and value.isascii()
                and 0 < len(value) <= longest
                and not (is_text and value.isspace())
            ):
                pass  # the common case, told without a further call
            elif (problem := self._text_problem(column, value)) is not None:
                return problem
        if self.typed and (problem := self._typed_problem(record)) is not None:
            return problem
        if self.images:
            return self._with_images(record, seconds, path, twin, position)
        values: tuple[str | None, ...]
        if self.typed:
            values = tuple([self._value(record, column) for column in self.columns])
        else:
            values = tuple([str.__str__(record[column]) for column in self.columns])
        if self.id is not None:
            return Accepted(str.__str__(record[self.id]), seconds, values)
        return Accepted(derived_id(path, twin, position, values), seconds, values)

    def _value(self, record: Mapping[str, object], column: str) -> str | None:
        """Return the value of a column that is no image, as the tables have it."""
        if column in self.typed:
            return _written(record.get(column), column in self.numbers)
        return str.__str__(record[column])

    def _with_images(
        self, record: Mapping[str, object], seconds: float | None, path: str, twin: int, position: int
    ) -> Accepted | Problem:
        """Return a record, whose other columns meet the contract, with its images decoded."""
        values: list[str | bytes | None] = []
        sources: list[str | bytes | None] = []
        effects: list[str] = []
        for column in self.columns:
            if column not in self.images:
                values.append(self._value(record, column))
                sources.append(values[-1])
                continue
            if column not in record:
                return _missing(record, column)
            name, most_pixels = self.images[column]
            found, source = decoded(record[column], most_pixels)
            if isinstance(found, Refused):
                return Problem(found.reason, f"the column {column!r} {found.detail}")
            values.append(found.png)
            sources.append(source)
            effects += [f"{name}.{effect}" for effect in found.effects]
        # By the bytes of the source: those of a PNG differ from one version of a library to another.
        own = derived_id(path, twin, position, tuple(sources)) if self.id is None else record[self.id]
        return Accepted(str.__str__(str(own)), seconds, tuple(values), tuple(effects))

    def _typed_problem(self, record: Mapping[str, object]) -> Problem | None:
        for column in self.typed:
            value = record.get(column)
            if value is None or isinstance(value, bool):
                continue
            if isinstance(value, NotText):
                return Problem("invalid_utf8", f"the column {column!r} is not valid UTF-8")
            if not isinstance(value, str):
                kind = _kind_of(value) if isinstance(value, Duration) else "is no single value"
                return Problem("wrong_type", f"the column {column!r} {kind}")
            if not value.isascii() and not _encodes(value):
                return Problem("lone_surrogate", f"the column {column!r} holds half of a surrogate pair")
        return None

    def _text_problem(self, column: str, value: object) -> Problem | None:
        if value is None:
            return Problem("null_value", f"the column {column!r} is null")
        if isinstance(value, NotText):
            return Problem("invalid_utf8", f"the column {column!r} is not valid UTF-8")
        # An id, a label or a group may be of any type that is written in one way: it is taken as it is written.
        if not isinstance(value, str) or (
            column not in self.names and type(value) is not str and type(value) is not UntypedText
        ):
            return Problem("wrong_type", f"the column {column!r} {_kind_of(value)}")
        if type(value) is Number and value.lower() == "nan":
            return Problem("null_value", f"the column {column!r} is NaN, which stands for a missing value")
        if not value:
            return Problem("empty_value", f"the column {column!r} is empty")
        if column in self.names and len(value) > MAX_NAME:
            return Problem("too_long_value", f"the column {column!r} has more than {MAX_NAME:,} characters")
        if column in self.texts and value.isspace():
            return Problem("blank_text", f"the column {column!r} holds nothing but white space")
        if not value.isascii() and not _encodes(value):
            return Problem("lone_surrogate", f"the column {column!r} holds half of a surrogate pair")
        return None


def _kind_of(value: object) -> str:
    """Return half a sentence about a value that is of the wrong type, and what to do."""
    if isinstance(value, Number):
        return "is a number and not a string"
    if isinstance(value, Moment):
        return "is a date or time and not a string"
    if isinstance(value, Truth):
        return "is true or false and not a string"
    if isinstance(value, bool):
        return "is true or false, as YAML reads yes, no, on and off: put it in quotes"
    if isinstance(value, Duration):
        return "is a duration, which has no notation of its own: store it as a number or a string"
    return "is not a string but a list, an object or binary: name a single value in it, as in 'event.name', 'tags[0]'"


def _written(value: object, is_number: bool) -> str | None:
    """Return a value of a typed column as the source writes it, None where it is missing.

    In a column of numbers, a value that the source types as a decimal ends with an exponent, so that its point is
    never taken for a thousands separator.
    """
    if is_number and isinstance(value, Number) and "." in value and "e" not in value.lower():
        return f"{value}e0"
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str.__str__(value)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def time_in_seconds(value: object, unit: str | None = None, notation: str | None = None) -> float | Problem:
    """Return a time in seconds since 1970-01-01 UTC.

    It is typed, or has the notation (a format of strptime), or is ISO 8601 or a number. Numbers are seconds without a
    unit; with one, numbers that are written as text count in it as well.
    """
    if value is None:
        return Problem("null_value", "is null")
    if not isinstance(value, Number | Moment | UntypedText) and type(value) is not str:
        return Problem("wrong_type", "is neither text nor a number")
    result: float | times.Refusal | None
    if notation is not None and not isinstance(value, Moment):
        result = times.of_format(value, notation)
    elif isinstance(value, Number) or (
        unit is not None and not isinstance(value, Moment) and DECIMAL.fullmatch(value)
    ):
        result = times.of_number(value, unit or "s")
    else:
        result = times.of_iso_8601(value)
        if result is None and DECIMAL.fullmatch(value):
            if isinstance(value, UntypedText):
                result = times.of_number(value, "s")
            else:
                result = "invalid_time", "is a number written as text: columns.time_unit says in which unit"
    if result is None:
        result = (
            "invalid_time",
            "is not a date or time in ISO 8601: columns.time_format says how it is written",
        )
    return Problem(*result) if isinstance(result, tuple) else result


def decoded(value: object, most_pixels: int) -> tuple[Decoded | Refused, bytes]:
    """Return the image of a column's value, and the bytes of the source that it is made of.

    The value is the content of a file, such a content in base64 (also that of URLs, without padding or as a `data:`
    URL), or pixels.
    """
    if isinstance(value, Pixels):
        return of_pixels(value), " ".join(value.values).encode()
    if value is None or value == "":
        return Refused("null_value" if value is None else "empty_value", "holds no image"), b""
    if isinstance(value, str):
        text = value.partition(",")[2] if value.startswith("data:") else value
        try:
            letters = "".join(text.split()).translate(FROM_URLS)
            value = NotText(base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True))
        except (binascii.Error, ValueError):
            return Refused("invalid_base64", "is text that is no base64"), b""
    if not isinstance(value, NotText):
        return Refused("wrong_type", "is neither an image nor text in base64"), b""
    return of_file(value.raw, most_pixels), value.raw


def derived_id(path: str, twin: int, position: int, values: tuple[str | bytes | None, ...]) -> str:
    """Derive the id of a record without one, in hex: BLAKE2b-128 (RFC 7693) of its place and its columns.

    Each part is preceded by its length, so that no two records give the same input; a missing value by a length that
    no value has.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (path, str(position), *values, *([str(twin)] if twin else [])):
        if part is None:
            digest.update(b"\xff" * 8)
            continue
        encoded = part if isinstance(part, bytes) else part.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def _missing(record: Mapping[str, object], column: str) -> Problem:
    names = record.names() if isinstance(record, WithNames) else nested_names(record)
    return Problem("missing_column", f"the column {column!r} is missing{hint(column, names)}")
