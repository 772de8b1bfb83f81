"""Rows of silver/encoded, a batch at a time, and the outliers among them."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from etl.encoders import Encoder, encoder_of
from etl.encoders.scalars import OUTLIER
from schemas.config import Configuration
from schemas.features import ScalarFeature
from schemas.kinds import AnyFeature
from schemas.tables import LEFT_OUT, encoded_schema, spark_schema

PART_BYTES = 32 << 20
"""Bytes of encoded rows that are held at a time."""


def encode_rows(
    published: DataFrame, config: Configuration, classes: Sequence[str], fitted: Mapping[str, bytes]
) -> DataFrame:
    """Return the rows of `silver/encoded` from the published records: columns of `fields_schema` and `split`."""
    columns = list(dict.fromkeys(feature.column for feature in config.feature))
    label = [config.columns.label] if config.columns.label is not None else []
    schema = pa.schema([field for field in encoded_schema(config) if field.name != LEFT_OUT])
    encoders = _batches(config, classes, dict(fitted), schema)
    names = list(dict.fromkeys(["record_id", "split", *label, *columns]))
    return published.select(*names).mapInArrow(encoders, spark_schema(schema))


def _batches(
    config: Configuration, classes: Sequence[str], fitted: Mapping[str, bytes], schema: pa.Schema
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    features, label = list(config.feature), config.columns.label
    index = {name: number for number, name in enumerate(classes)}

    def encode_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Spark runs one worker a core already; the library's own threads would fight over them.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        encoders: list[tuple[AnyFeature, Encoder]] = [(feature, encoder_of(feature)) for feature in features]
        for batch in (part for whole in batches for part in _parts(whole, encoders)):
            arrays = [batch.column("record_id"), batch.column("split")]
            if label is not None:
                arrays.append(pa.array([index[name] for name in batch.column(label).to_pylist()], pa.int32()))
            for feature, encoder in encoders:
                arrays.extend(encoder.encode(batch.column(feature.column), fitted[feature.name], feature))
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return encode_batches


def _parts(batch: pa.RecordBatch, encoders: Sequence[tuple[AnyFeature, Encoder]]) -> Iterator[pa.RecordBatch]:
    """Yield slices of a batch whose encoded rows have about PART_BYTES: a small PNG may be of any size once decoded."""
    widths = (
        math.prod(encoder.shape(feature)) * np.dtype(encoder.dtype(feature)).itemsize
        for feature, encoder in encoders
    )
    size = max(1, PART_BYTES // max(1, sum(widths)))
    return (batch.slice(begin, size) for begin in range(0, len(batch), size))


def outliers_of(
    records: DataFrame, features: Sequence[ScalarFeature], fitted: Mapping[str, bytes]
) -> DataFrame:
    """Return columns `record_id` and LEFT_OUT of records that are outliers of any of the features, in feature order."""
    columns = list(dict.fromkeys(["record_id", *(feature.column for feature in features)]))
    found = _find_outliers(features, dict(fitted))
    return records.select(*columns).mapInArrow(found, f"record_id string, {LEFT_OUT} string")


def _find_outliers(
    features: Sequence[ScalarFeature], fitted: Mapping[str, bytes]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    names = [f"{feature.name}.outlier" for feature in features]

    def find(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            reasons: list[str | None] = [None] * len(batch)
            for name, feature in zip(names, features, strict=True):
                flags = encoder_of(feature).flags(batch.column(feature.column), fitted[feature.name])  # type: ignore[attr-defined]
                for row in np.flatnonzero(flags & OUTLIER).tolist():
                    reasons[row] = reasons[row] or name
            table = pa.table(
                {"record_id": batch.column("record_id"), LEFT_OUT: pa.array(reasons, pa.string())}
            )
            yield from table.filter(pc.is_valid(table[LEFT_OUT])).to_batches()

    return find
