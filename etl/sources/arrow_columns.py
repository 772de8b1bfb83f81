"""Columns of Arrow data, as Parquet and other typed formats give them, in the types of the contract."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.sources.contract import Contract, Duration, Moment, NotScalar, NotText, Number, Truth, WithNames
from etl.sources.paths import Path, Step, shown
from etl.sources.times import written

DEEPEST = 8
"""Levels of nested types that are looked at for the names in a hint."""


class ArrowColumns:
    """Places of the needed columns in a schema: top-level columns of exactly that name, or else paths."""

    def __init__(self, schema: pa.Schema, contract: Contract) -> None:
        self.schema, self.contract = schema, contract
        self.found: dict[str, Path] = {}
        for name in contract.needed:
            path = (name,) if name in schema.names else contract.paths.get(name)
            if path is not None and path[0] in schema.names and _leads(self._type(str(path[0])), path[1:]):
                self.found[name] = path
        self.lacking = any(name not in self.found for name in contract.required)

    @property
    def top(self) -> list[str]:
        """Names of the top-level columns that the needed ones lie in."""
        return list(dict.fromkeys(str(path[0]) for path in self.found.values()))

    @property
    def in_structs(self) -> list[tuple[Step, ...]]:
        """Steps of the paths of the needed columns as far as they lead through structs alone."""
        found: dict[tuple[Step, ...], None] = {}
        for path in self.found.values():
            kind, steps = self._type(str(path[0])), 1
            while steps < len(path) and pa.types.is_struct(kind):
                kind = kind.field(path[steps]).type
                steps += 1
            found[path[:steps]] = None
        return list(found)

    def _type(self, name: str) -> pa.DataType:
        """Return the type of a top-level column, the first of that name."""
        return self.schema.field(self.schema.names.index(name)).type

    @property
    def repeated(self) -> str | None:
        """Name of a needed top-level column that the schema has more than once."""
        return next((name for name in self.top if self.schema.names.count(name) > 1), None)

    def refusal(self) -> tuple[str, str] | None:
        """Return why no row can be read, as a reason and a detail; None where they can."""
        if self.repeated is not None:
            return "duplicate_column", f"the file has more than one column {self.repeated!r}"
        if not self.found:
            return "missing_column", f"the file has none of the columns {', '.join(self.contract.needed)}"
        return None

    def names(self) -> list[str]:
        """Return the names and paths of all columns that hold single values, and of those that are needed."""
        return list(dict.fromkeys([*names_of(self.schema), *self.found]))

    def rows(self, batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
        """Yield the needed columns of each row."""
        columns = {
            name: list(values(at(batch.column(str(path[0])), path[1:]))) for name, path in self.found.items()
        }
        for place in range(batch.num_rows):
            row = {name: column[place] for name, column in columns.items()}
            yield WithNames(row, self.names) if self.lacking else row


def names_of(schema: pa.Schema) -> Iterator[str]:
    """Yield the names and paths of the columns that hold single values; of a list, those of its first element."""
    for field in schema:
        yield from _below(field.type, (field.name,))


def _below(kind: pa.DataType, path: tuple[Step, ...]) -> Iterator[str]:
    kind = _plain(kind)
    if len(path) > DEEPEST:
        return
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _below(field.type, (*path, field.name))
    elif _is_list(kind):
        yield from _below(kind.value_type, (*path, 0))
    elif not pa.types.is_map(kind):
        yield shown(path) if len(path) > 1 else str(path[0])


def _leads(kind: pa.DataType, path: Sequence[Step]) -> bool:
    """Return True where a path leads to something in a type."""
    for step in path:
        kind = _plain(kind)
        if isinstance(step, int) and _is_list(kind):
            kind = kind.value_type
        elif isinstance(step, str) and pa.types.is_map(kind) and _is_text(_plain(kind.key_type)):
            kind = kind.item_type
        elif isinstance(step, str) and pa.types.is_struct(kind) and kind.get_field_index(step) >= 0:
            kind = kind.field(step).type
        else:
            return False
    return True


def at(array: pa.Array, path: Sequence[Step]) -> pa.Array:
    """Return what a path leads to in each value; null where an element or a key is not there."""
    for step in path:
        array = _decoded(array)
        kind = array.type
        if pa.types.is_struct(kind):
            array = pc.struct_field(array, [kind.get_field_index(step)])
            continue
        stored = _of_storage(kind)
        if stored != kind:  # pyarrow looks up no element that holds an extension type
            array = array.cast(stored)
        if isinstance(step, int):
            there = pc.greater(pc.list_value_length(array), step)
            array = pc.list_element(pc.if_else(there, array, pa.scalar(None, array.type)), step)
            element = kind.value_type
        else:
            array = pc.map_lookup(array, pa.scalar(step, array.type.key_type), "first")
            element = kind.item_type
        if stored != kind:
            array = array.cast(element)
    return array


def values(array: pa.Array) -> Iterator[object]:
    """Yield the values of a column in the types of the contract."""
    array = _decoded(array)
    kind = array.type
    if _is_text(kind):
        yield from _strings(array)
    elif isinstance(kind, pa.UuidType):
        yield from (None if value is None else str(value) for value in array.to_pylist())
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        zone = "Z" if pa.types.is_timestamp(kind) and kind.tz is not None else ""
        # Without its zone a timestamp is the same moment in UTC, and no time zone database is needed.
        plain = array.cast(pa.int64()).cast(pa.timestamp(kind.unit)) if zone else array
        texts = plain.cast(pa.string()).to_pylist()
        yield from (None if text is None else Moment(written(text, zone)) for text in texts)
    elif pa.types.is_float16(kind) or pa.types.is_float32(kind):
        # The shortest digits that mean it, not those of the double that Python would make of it.
        single = np.float16 if pa.types.is_float16(kind) else np.float32
        yield from (None if value is None else Number(str(single(value))) for value in array.to_pylist())
    elif pa.types.is_decimal(kind):
        yield from (None if value is None else Number(f"{value:f}") for value in array.to_pylist())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield from (None if value is None else Number(value) for value in array.to_pylist())
    elif pa.types.is_boolean(kind):
        yield from (
            None if value is None else Truth("true" if value else "false") for value in array.to_pylist()
        )
    else:
        other = Duration() if pa.types.is_duration(kind) else NotScalar()
        yield from (other if valid else None for valid in array.is_valid().to_pylist())


def _strings(array: pa.Array) -> Iterator[object]:
    """Yield strings, and binary values as the UTF-8 that many writers mean by them."""
    for value in array.cast(pa.large_binary()).to_pylist():
        if value is None:
            yield None
            continue
        try:
            yield value.decode()
        except UnicodeDecodeError:
            yield NotText(value)


def dictionaries(array: pa.Array) -> Iterator[pa.Array]:
    """Yield the dictionaries of an array and of the arrays nested in it."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield array.dictionary
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            yield from dictionaries(array.field(place))
    elif _is_list(kind):
        yield from dictionaries(array.values)
    elif pa.types.is_map(kind):
        yield from dictionaries(array.items)


def longest_in(arrays: Iterable[pa.Array]) -> int:
    """Return the bytes of the longest string of dictionaries."""
    return max((pc.max(pc.binary_length(array)).as_py() or 0 for array in arrays), default=0)


def size_of(row: Mapping[str, object]) -> int:
    """Return the characters of the strings of a row."""
    return sum(len(value) for value in row.values() if isinstance(value, str))


def _decoded(array: pa.Array) -> pa.Array:
    """Return an array in plain layout."""
    while (kind := array.type) != _plain(kind):
        if isinstance(kind, pa.BaseExtensionType):
            array = array.storage
        elif pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
        else:
            array = pc.run_end_decode(array)
    return array


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, however they are laid out."""
    while True:
        if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def _of_storage(kind: pa.DataType) -> pa.DataType:
    """Return a type with the storage of each extension type in its place, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return _of_storage(kind.storage_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_of_storage(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_of_storage(kind.key_type), _of_storage(kind.item_type))
    if not _is_list(kind):
        return kind
    field = kind.value_field.with_type(_of_storage(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(field, kind.list_size)
    return pa.large_list(field) if pa.types.is_large_list(kind) else pa.list_(field)


def _is_list(kind: pa.DataType) -> bool:
    of_lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in of_lists)


def _is_text(kind: pa.DataType) -> bool:
    of_text = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(is_kind(kind) for is_kind in of_text)
