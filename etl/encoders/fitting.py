"""Fitting of the encoders to the training split, or to a sample of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from common.progress import log
from etl.encoders import encoder_of
from etl.spark.sampling import in_sample
from schemas.config import Configuration
from schemas.features import FeatureSettings, ScalarFeature, TextFeature, TypedFeature

VALUES_AT_ONCE = 1 << 22
"""Values that the driver holds at a time, some 100 MB."""


def fit_scalars(
    fields: DataFrame, ledger: DataFrame, features: Sequence[ScalarFeature], config: Configuration
) -> Iterator[tuple[str, bytes]]:
    """Fit the encoders of columns of scalars to the training split, or to `fit_rows` of its rows; yield each by name.

    Those are chosen by the hash of the record id. Several columns are read together.
    """
    whole = ledger.where("split = 'train'").select("record_id")
    rows = max(1, whole.count()) if features else 1
    for fit_rows in sorted({feature.fit_rows for feature in features}):
        share = min(1.0, fit_rows / rows)
        train = whole.where(in_sample(share)) if share < 1 else whole
        alike = [feature for feature in features if feature.fit_rows == fit_rows]
        most = max(1, VALUES_AT_ONCE // min(rows, fit_rows))
        for begin in range(0, len(alike), most):
            some = alike[begin : begin + most]
            names = sorted({feature.column for feature in some})
            values = fields.select("record_id", *names).join(train, "record_id", how="left_semi")
            table = values.select(*names).toArrow()
            for feature in some:
                column = table.column(feature.column).to_pylist()
                yield feature.name, encoder_of(feature).fit(column, feature, config.storage)


def fit_categories(
    fields: DataFrame, ledger: DataFrame, feature: TypedFeature, config: Configuration
) -> bytes:
    """Fit the encoder of another typed column to the training split."""
    train = ledger.where("split = 'train'").select("record_id")
    values = fields.select("record_id", feature.column).join(train, "record_id", how="left_semi")
    # Few different values, whatever the number of rows.
    counts = values.groupBy(feature.column).count().collect()
    return encoder_of(feature).fit(Counter({row[0]: int(row[1]) for row in counts}), feature, config.storage)


def fit(fields: DataFrame, ledger: DataFrame, feature: FeatureSettings, config: Configuration) -> bytes:
    """Fit the encoder of a column that is not typed to the training split."""
    if isinstance(feature, TextFeature):
        return fit_tokens(fields, ledger, feature, config)
    return fit_sums(fields, ledger, feature, config)


def fit_sums(fields: DataFrame, ledger: DataFrame, feature: FeatureSettings, config: Configuration) -> bytes:
    """Fit an encoder with a function `summarise`, whose results for the batches of the training split it fits to."""
    encoder = encoder_of(feature)

    def summarised(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = encoder.summarise(batch.column(0), feature)  # type: ignore[attr-defined]
            yield pa.RecordBatch.from_pydict({"sums": pa.array([found], pa.binary())})

    train = ledger.where("split = 'train'").select("record_id")
    # The values are large and stay where they are.
    values = fields.join(sf.broadcast(train), "record_id", how="left_semi").select(feature.column)
    sums = values.mapInArrow(summarised, "sums binary").collect()
    return encoder.fit([row[0] for row in sums], feature, config.storage)


def fit_tokens(fields: DataFrame, ledger: DataFrame, feature: TextFeature, config: Configuration) -> bytes:
    """Fit the encoder of a feature to the texts of the training split, or to a sample of them.

    The sample (above `fit_bytes`) is chosen by the hash of the record id: the same on every run and partitioning.
    """
    encoder = encoder_of(feature)
    if feature.tokenizer is not None:
        return encoder.fit((), feature, config.storage)
    train = ledger.where("split = 'train'").select("record_id")
    sizes = fields.select("record_id", sf.octet_length(feature.column).alias("bytes"))
    total = sizes.join(train, "record_id", how="left_semi").agg(sf.sum("bytes")).collect()[0][0] or 0
    share = min(1.0, feature.fit_bytes / total) if total else 1.0
    if share < 1:
        log(f"  {feature.name}: the tokenizer is trained on {share:.1%} of {total:,} bytes")
        train = train.where(in_sample(share))
    texts = fields.join(sf.broadcast(train), "record_id", how="left_semi").select(feature.column).toArrow()
    column = texts.column(0)
    return encoder.fit(
        (text for chunk in column.chunks for text in chunk.to_pylist()), feature, config.storage
    )
