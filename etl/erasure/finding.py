"""Search for a person's records in the tables, by id or by pseudonym."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from common.errors import UsageError
from etl.lake.tombstones import FORGOTTEN, Tombstones, content_sha256, place_sha256, raw_sha256, record_sha256
from etl.rules.personal_data import LETTERS_OF_A_PSEUDONYM, PersonalData
from etl.rules.registry import build_rules
from etl.sources.csv_dialect import DELIMITERS
from etl.sources.escapes import unescaped
from etl.sources.paths import parse_path
from schemas.config import Configuration
from schemas.sources.csv import AUTO, Csv
from schemas.sources.zeek import Zeek
from schemas.tables import spark_schema

PSEUDONYM = re.compile(rf"<?(?:[\w.]+:)?([a-p]{{{LETTERS_OF_A_PSEUDONYM}}})>?", re.ASCII)
SILVER_TABLES = ("fields", "signatures", "clusters", "ledger", "encoded")
_FOUND = pa.schema(
    [
        ("source_index", pa.int32()),
        ("source_path", pa.string()),
        ("source_position", pa.int64()),
        ("sha256", pa.binary()),
        ("ids", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Person:
    """Person to forget: ids of records, the letters of pseudonyms, and path and position of records in quarantine."""

    ids: tuple[str, ...] = ()
    pseudonyms: tuple[str, ...] = ()
    places: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(
        cls, ids: Iterable[str] = (), pseudonyms: Iterable[str] = (), places: Iterable[str] = ()
    ) -> "Person":
        """Parse the command line. Raises UsageError for a malformed value.

        The message numbers the value instead of showing it, which may reveal something about a person.
        """
        positions = []
        for number, given in enumerate(places, start=1):
            path, colon, position = given.rpartition(":")
            if not colon or not position.isdecimal():
                raise UsageError(
                    f"--quarantined, number {number} is no place in the quarantine: give PATH:POSITION, see "
                    "`ringlake-etl quarantine`"
                )
            positions.append((path, int(position)))
        letters = []
        for number, given in enumerate(pseudonyms, start=1):
            match = PSEUDONYM.fullmatch(given.strip())
            if match is None:
                raise UsageError(
                    f"--pseudonym, number {number} is no pseudonym: give one as it stands in the cleaned texts, "
                    f"<kind:letters>, or its {LETTERS_OF_A_PSEUDONYM} letters"
                )
            letters.append(match[1])
        return cls(tuple(ids), tuple(dict.fromkeys(letters)), tuple(dict.fromkeys(positions)))

    def pattern(self) -> str:
        """Return a regular expression, for Java as well as Python, that finds any of the pseudonyms in a cleaned
        text.
        """
        return f"<[^<>:]*:(?:{'|'.join(self.pseudonyms)})>"


@dataclass(frozen=True, order=True)
class Place:
    """Location of a record in the sources."""

    source_index: int
    source_path: str
    source_position: int


@dataclass(frozen=True)
class Erasure:
    """Records to erase by id, and rows of the quarantine to erase by place with the hash of their raw bytes."""

    records: dict[str, Place]
    """Records in bronze/records."""
    quarantined: dict[Place, bytes]
    ids: frozenset[str] = frozenset()
    """Ids of all records that no table may hold any more: given, or found by a pseudonym."""
    known: frozenset[str] = frozenset()
    """Ids among them that a table has or a record in quarantine names."""
    left: frozenset[str] = frozenset()
    """Tables of silver that have any of them."""

    def __bool__(self) -> bool:
        """Return True where there is anything to remove."""
        return bool(self.records or self.quarantined or self.left)

    def tombstones(self, files: DataFrame) -> Tombstones:
        """Return the tombstones to leave behind; `files`: the table bronze/sources."""
        known = facts_of(files, {place.source_path for place in self.records.values()})
        places, spots, contents = set(), set(), set()
        for place in self.records.values():
            file = known.get((place.source_index, place.source_path))
            if file is None:  # it has gone and a run broke off since
                continue
            here = (place.source_path, file.twin, place.source_position)
            if file.sha256 is None:
                places.add(place_sha256(*here, file.bytes))
            else:
                spots.add(place_sha256(*here, file.bytes))
                contents.add(content_sha256(*here, file.sha256))
        return Tombstones(
            frozenset(map(record_sha256, self.known)),
            frozenset(places),
            frozenset(self.quarantined.values()),
            frozenset(spots),
            frozenset(contents),
        )


class FileFacts(NamedTuple):
    """Facts of a file in bronze/sources, and the number of earlier sources with a file of the same path."""

    bytes: int
    sha256: str | None
    twin: int


def facts_of(files: DataFrame, paths: set[str]) -> dict[tuple[int, str], FileFacts]:
    """Return the facts of the files with these paths, by source and path."""
    rows = files.join(
        _broadcast(files.sparkSession, "source_path", paths), "source_path", "left_semi"
    ).collect()
    known: dict[tuple[int, str], FileFacts] = {}
    for row in sorted(rows, key=lambda row: row["source_index"]):
        twin = sum(path == row["source_path"] for _, path in known)
        known[row["source_index"], row["source_path"]] = FileFacts(row["bytes"], row["sha256"], twin)
    return known


def _broadcast(spark: SparkSession, name: str, values: Iterable[str]) -> DataFrame:
    """Return a frame of one column, small enough for every executor."""
    return F.broadcast(spark.createDataFrame(pa.table({name: pa.array(sorted(values), pa.string())})))


def find(
    spark: SparkSession,
    config: Configuration,
    person: Person,
    tables: Callable[[str], DataFrame | None],
    key: bytes | None,
) -> Erasure:
    """Find a person's records in bronze and silver; `tables` gives a table by name, None for a missing one.

    `key` makes the pseudonyms. Unreadable records in the quarantine are searched for an id in the place where the
    format has it, and for the values behind the pseudonyms. Raises UsageError for a place without a record.
    """
    ids = set(person.ids)
    known: set[str] = set()
    if person.pseudonyms:
        known |= with_pseudonym(tables("fields"), config, person)
        ids |= known
    records = places_of(spark, tables("records"), ids)
    known |= records.keys()
    left = {name: ids_in(spark, tables(name), ids) for name in SILVER_TABLES}
    known |= {found for table in left.values() for found in table}
    quarantine = tables("quarantine")
    quarantined: dict[Place, bytes] = {}
    if quarantine is not None:
        # Only given ids: those of records with the pseudonym are no help, since they were readable.
        with_raw = quarantine.where(F.col("reason") != FORGOTTEN).where("length(raw) > 0")
        named = with_raw.select("source_index", "source_path", "source_position", "raw")
        rows = named.mapInArrow(SearchQuarantine(config, person, key), spark_schema(_FOUND)).collect()
        rows += at_places(quarantine, person)
        for row in rows:
            place = Place(row["source_index"], row["source_path"], row["source_position"])
            quarantined[place] = bytes(row["sha256"])
            known |= {person.ids[number] for number in row["ids"]}
    tables_left = frozenset(name for name, found in left.items() if found)
    return Erasure(records, quarantined, frozenset(ids), frozenset(known), tables_left)


def at_places(quarantine: DataFrame, person: Person) -> list[Row]:
    """Return the rows with raw bytes at the given places, except those erased already.

    Raises UsageError where there is none.
    """
    found = []
    for path, position in person.places:
        sha256 = F.unhex(F.sha2("raw", 256)).alias("sha256")
        rows = (
            quarantine.where((F.col("source_path") == path) & (F.col("source_position") == position))
            .where((F.col("reason") == FORGOTTEN) | (F.length("raw") > 0))
            .select("source_index", "source_path", "source_position", sha256, F.array().alias("ids"))
            .collect()
        )
        if not rows:
            raise UsageError(
                f"nothing with raw bytes is in quarantine at {path}:{position}; `ringlake-etl quarantine` shows what is"
            )
        found += [row for row in rows if row["sha256"] is not None]
    return found


def with_pseudonym(fields: DataFrame | None, config: Configuration, person: Person) -> set[str]:
    """Return the ids of records with one of the pseudonyms in their cleaned texts."""
    if fields is None:
        return set()
    found = F.lit(False)
    # The configuration may have columns that no run has written yet.
    for column in set(config.text_columns()) & set(fields.columns):
        found = found | F.coalesce(F.col(column).rlike(person.pattern()), F.lit(False))
    return {row[0] for row in fields.where(found).select("record_id").collect()}


def ids_in(spark: SparkSession, table: DataFrame | None, ids: set[str]) -> set[str]:
    """Return the ids among `ids` that a table has."""
    if table is None or not ids:
        return set()
    wanted = _broadcast(spark, "record_id", ids)
    return {row[0] for row in table.select("record_id").join(wanted, "record_id", "left_semi").collect()}


def places_of(spark: SparkSession, records: DataFrame | None, ids: set[str]) -> dict[str, Place]:
    """Return the locations of the ids that bronze/records has."""
    if records is None or not ids:
        return {}
    rows = (
        records.select("record_id", "source_index", "source_path", "source_position")
        .join(_broadcast(spark, "record_id", ids), "record_id", "left_semi")
        .collect()
    )
    return {row[0]: Place(row[1], row[2], row[3]) for row in rows}


class SearchQuarantine:
    """Function for `mapInArrow`: the rows of the quarantine that are about a person, and their match."""

    def __init__(self, config: Configuration, person: Person, key: bytes | None) -> None:
        self.config, self.person, self.key = config, person, key

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rules = [
            rule
            for _, rule in build_rules(self.config.clean, self.key)
            if isinstance(rule, PersonalData) and rule.pseudonyms and self.person.pseudonyms
        ]
        pattern = re.compile(self.person.pattern())
        wanted = {name: number for number, name in enumerate(self.person.ids)}
        for batch in batches:
            rows = []
            for row in range(len(batch)):  # one by one: raw bytes may be long
                raw: bytes = batch.column(3)[row].as_py()
                text = unescaped(raw)
                named = named_ids(self.config, batch.column(0)[row].as_py(), text) if wanted else set()
                numbers = sorted(wanted[name] for name in named & wanted.keys())
                if numbers or any(pattern.search(rule.apply(text)[0]) for rule in rules):
                    place = [batch.column(column)[row].as_py() for column in range(3)]
                    rows.append(dict(zip(_FOUND.names, [*place, raw_sha256(raw), numbers], strict=True)))
            if rows:
                yield pa.RecordBatch.from_pylist(rows, schema=_FOUND)


def named_ids(config: Configuration, source_index: int, text: str) -> set[str]:
    """Return the possible ids of a rejected raw record: the value of the id's column wherever it is named.

    In CSV and Zeek's logs every field may be it, since the header is not known, and the number of fields may be wrong.
    `text` is the decoded record without escapes.
    """
    column = config.columns.id
    if column is None:
        return set()
    source: Any = config.source[source_index] if source_index < len(config.source) else None
    if isinstance(source, Csv):
        delimiters = DELIMITERS if source.delimiter == AUTO else [source.delimiter.encode()]
        split = (re.split(rf"[\r\n{re.escape(delimiter.decode())}]", text) for delimiter in delimiters)
        return {field.strip().strip(source.quote or None) for fields in split for field in fields}
    if isinstance(source, Zeek):
        return set(re.split(r"[\r\n\t]", text))
    path = parse_path(config.columns.in_files(column)) or (config.columns.in_files(column),)
    name = re.escape(next(step for step in reversed(path) if isinstance(step, str)))
    value = r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([^\s,}\]\"']+)"
    found: Sequence[tuple[str, str, str]] = re.findall(rf"[\"']?\b{name}[\"']?\s*:\s*(?:{value})", text)
    return {part for match in found for part in match if part}
