"""Tables of a data set: their locations, and their columns as Arrow schemas (Spark's are derived from them)."""

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from common import storage
from common.errors import ConfigurationError
from schemas.config import Configuration

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

SPLITS: Final = ("train", "validation", "test")
STATUSES: Final = ("kept", "filtered", "exact_duplicate", "near_duplicate")
MISREAD: Final = re.compile(r"[#?*\[\]{}\\^|\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""Parts of a local path that delta-rs takes for a URL's, or Spark for a pattern's; also bytes that are not UTF-8."""
EXPIRED: Final = "expired"
"""Folder below `manifests/` for the manifests of versions whose files are gone."""
LEFT_OUT: Final = "left_out"
"""Column of silver/encoded with the reason of an outlier that is left out: `<feature>.outlier`."""


def check_delta_path(location: str, key: str) -> None:
    """Raise ConfigurationError, naming the key, for the absolute path of a table that no library would open."""
    found = MISREAD.search(location) if storage.is_local(location) else None
    if found is not None:
        raise ConfigurationError(
            f"{key!r} leads to {location!r}, and the libraries for Delta tables misread {found[0]!r} in a path: choose "
            r"a folder whose path has none of # ? * [ ] { } \ ^ |, no % before two hexadecimal digits, no control "
            "characters, and only UTF-8"
        )


@dataclass(frozen=True)
class Layout:
    """Locations of a data set below `<dataset.root>/<dataset.name>`, as absolute paths or URIs."""

    root: str

    @classmethod
    def of(cls, config: Configuration) -> "Layout":
        """Return the locations of a configured data set. Raises ConfigurationError for a path that no library opens."""
        root = storage.absolute(storage.join(config.dataset.root, config.dataset.name))
        check_delta_path(root, "dataset.root")
        return cls(root)

    @classmethod
    def of_manifest(cls, location: str, stated: str, options: storage.Storage | None = None) -> "Layout":
        """Return the layout of the data set of a manifest, which states its folder relative to its own.

        An absolute path, as in format 4, counts where the manifest does not lie in the `manifests/` of a data set.
        """
        folder = storage.parent(location)
        if posixpath.basename(folder) == EXPIRED:
            folder = posixpath.dirname(folder)
        here = storage.follow(stated, folder)
        own = cls(storage.follow("..", folder))
        if here == stated != own.root and own.manifests == folder and storage.exists(own.shards, options):
            return own
        return cls(here)

    def references(self) -> dict[str, str]:
        """Return the places that a manifest states, relative to its folder."""
        places = {"table_uri": self.shards, "dataset_uri": self.root}
        return {key: storage.refer(location, self.manifests) for key, location in places.items()}

    def at(self, *parts: str) -> str:
        return storage.join(self.root, *parts)

    @property
    def sources(self) -> str:
        return self.at("bronze", "sources")

    @property
    def records(self) -> str:
        return self.at("bronze", "records")

    @property
    def quarantine(self) -> str:
        return self.at("bronze", "quarantine")

    @property
    def tombstones(self) -> str:
        return self.at("bronze", "tombstones")

    @property
    def fields(self) -> str:
        return self.at("silver", "fields")

    @property
    def ledger(self) -> str:
        return self.at("silver", "ledger")

    @property
    def clusters(self) -> str:
        return self.at("silver", "clusters")

    @property
    def signatures(self) -> str:
        return self.at("silver", "signatures")

    @property
    def encoded(self) -> str:
        return self.at("silver", "encoded")

    @property
    def shards(self) -> str:
        return self.at("gold", "shards")

    @property
    def artifacts(self) -> str:
        return self.at("artifacts")

    @property
    def manifests(self) -> str:
        return self.at("manifests")

    @property
    def quality(self) -> str:
        return self.at("quality")


_TEXT = pa.string()
_LENGTHS = pa.list_(pa.int32())
_SKIPPED = pa.list_(pa.struct([("rule", pa.string()), ("size", pa.int64())]))
"""Content of a source file that is no record, by the rule that says so."""
_EFFECT = pa.list_(pa.struct([("rule", pa.string()), ("count", pa.int32())]))


def sources_schema() -> pa.Schema:
    """Return the schema of `bronze/sources`: a row for each source file."""
    return pa.schema(
        [
            ("source_index", pa.int32()),  # which [[source]], from 0
            ("source_path", _TEXT),  # relative to that source's root
            ("bytes", pa.int64()),
            ("sha256", _TEXT),  # of the file as it lies there, compressed or not; null when unreadable
            ("modified", pa.timestamp("us", tz="UTC")),
            ("ingested", pa.timestamp("us", tz="UTC")),
            ("status", _TEXT),  # read | unreadable (then it is one row of bronze/quarantine)
            ("records", pa.int64()),  # records read from it, quarantined ones included
            ("quarantined", pa.int64()),
            # Sizes are bytes of the decompressed content, without line ends, or rows of a format with random access:
            # content_size = records_size + quarantined_size + the sum of skipped.
            ("content_size", pa.int64()),  # null where a range of the file could not be read
            ("records_size", pa.int64()),  # of the records that are not quarantined
            ("quarantined_size", pa.int64()),
            ("skipped", _SKIPPED),
            ("encoding", _TEXT),  # of a text file
            ("lines", pa.int64()),  # of the records, quarantined ones included; one each but in CSV
            ("quarantined_lines", pa.int64()),
        ]
    )


def records_schema(config: Configuration) -> pa.Schema:
    """Return the schema of `bronze/records`: every readable record; the configured columns are strings,
    verbatim, and images as PNG.

    Columns of typed features may be null.
    """
    return pa.schema(
        [
            ("record_id", _TEXT),
            ("source_index", pa.int32()),
            ("source_path", _TEXT),
            ("source_position", pa.int64()),  # byte offset in the decompressed file; row number for Parquet
            ("source_bytes", pa.int64()),  # length of the raw record there; 0 for Parquet
            (
                "time_seconds",
                pa.float64(),
            ),  # columns.time as seconds since 1970; null where none is configured
            *_configured(config),
            # What decoding left out of the images or changed, `<column>.<effect>` each (etl/images/decoding.py).
            *([("image_effects", pa.list_(_TEXT))] if config.image_features() else []),
        ]
    )


def _configured(config: Configuration) -> list[tuple[str, pa.DataType]]:
    """Return the configured columns of bronze and silver: strings, and images as PNG."""
    images = config.image_columns()
    return [(column, pa.binary() if column in images else _TEXT) for column in config.table_columns()]


def quarantine_schema() -> pa.Schema:
    """Return the schema of `bronze/quarantine`: every record that violates the contract."""
    return pa.schema(
        [
            ("source_index", pa.int32()),
            ("source_path", _TEXT),
            ("source_position", pa.int64()),
            ("reason", _TEXT),  # a short name: invalid_json, missing_column, wrong_type, repeated_id, …
            ("detail", _TEXT),  # one sentence for a person; never the record's content
            ("raw", pa.binary()),
        ]
    )


def tombstones_schema() -> pa.Schema:
    """Return the schema of `bronze/tombstones`: what `forget` erased, as hashes alone (etl/lake/tombstones.py)."""
    return pa.schema(
        [
            ("kind", _TEXT),  # record | spot | content | place | raw
            ("sha256", _TEXT),
            ("forgotten", pa.timestamp("us", tz="UTC")),
        ]
    )


def fields_schema(config: Configuration) -> pa.Schema:
    """Return the schema of `silver/fields`: every record of bronze with clean texts and normalised typed columns.

    Rules annotate, nothing disappears; a typed value that is missing or cannot be parsed is null.
    """
    return pa.schema(
        [
            ("record_id", _TEXT),
            ("source_index", pa.int32()),
            ("source_path", _TEXT),
            ("source_position", pa.int64()),
            ("time_seconds", pa.float64()),
            *_configured(config),
            ("filtered_by", _TEXT),  # the first filtering rule that the record met, else null
            ("effects", _EFFECT),  # effects of each rule: replacements, or 1 for a filter
            ("text_characters_read", _LENGTHS),  # of each of `Configuration.text_columns()`, before cleaning
            ("text_characters", _LENGTHS),  # and after it
            # The distinct words of all of them (etl/spark/sampled_words.py); null but for a sample of the records.
            ("sampled_words", pa.list_(_TEXT)),
        ]
    )


def clusters_schema() -> pa.Schema:
    """Return the schema of `silver/clusters`: the duplicates of each record of bronze, before splits are known."""
    return pa.schema([field for field in ledger_schema() if field.name != "split"])


def ledger_schema() -> pa.Schema:
    """Return the schema of `silver/ledger`: one narrow row for each record of bronze."""
    return pa.schema(
        [
            ("record_id", _TEXT),
            ("source", _TEXT),  # source_path
            ("status", _TEXT),  # one of STATUSES
            (
                "reason",
                _TEXT,
            ),  # the rule for filtered, the survivor's record_id for duplicates, null for kept
            (
                "cluster_id",
                _TEXT,
            ),  # of every record that was compared, but those with the reason split_conflict
            ("split", _TEXT),  # of SPLITS, for published records alone
        ]
    )


def signatures_schema() -> pa.Schema:
    """Return the schema of `silver/signatures`: the input of the duplicate finder, for each distinct content."""
    return pa.schema(
        [
            ("record_id", _TEXT),
            ("content_hash", pa.binary()),  # 128 bits of the content in the form that exact duplicates share
            ("signs", pa.int64()),  # hash of a short text's signs, 0 for a longer one and all else
            ("bands", pa.list_(pa.int64())),  # one LSH bucket key a band
            ("sketch", pa.binary()),  # what similarity is computed from (etl/duplicates/contents)
        ]
    )


def encoded_schema(config: Configuration) -> pa.Schema:
    """Return the schema of `silver/encoded`: the rows to be published, ready for training but not yet in shards.

    Where outliers of a typed column are left out, these have a row as well, with their id and LEFT_OUT alone.
    """
    tokens = {feature.name for feature in config.token_features()}
    packed = config.packed_feature()
    features = [
        column
        for feature in config.feature
        for column in (
            # Its elements, little-endian; of tokens `length` ids, padded with 0, of packed tokens all of the text's.
            (feature.name, pa.binary()),
            # For tokens their number before truncation; for others whether the value was missing (1), an outlier
            # (2).
            (f"{feature.name}_{'tokens' if feature.name in tokens else 'flags'}", pa.int32()),
        )
    ]
    if packed is not None:
        features.append((f"{packed.name}_bytes", pa.int64()))  # of the cleaned text in UTF-8
    label = [("label_index", pa.int32())] if config.columns.label is not None else []
    left_out = [(LEFT_OUT, _TEXT)] if config.dropping_features() else []
    return pa.schema([("record_id", _TEXT), ("split", _TEXT), *label, *features, *left_out])


def spark_schema(schema: pa.Schema) -> "StructType":
    """Return the Spark schema with the same columns, all nullable."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
