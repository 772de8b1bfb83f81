"""encode: from the cleaned texts to rows that a model takes, by what the training split alone has taught.

Reads silver/fields and silver/ledger, writes silver/encoded and the artifacts (a tokenizer a feature, class names).
The join of the two is the one shuffle that the text crosses.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from etl.completion import encode_basis, identity
from etl.delta_tables import read_table, table_version, write_table
from etl.encoders import ARTIFACT_PURPOSE, Encoder, encoder_of
from etl.publication import artifacts
from etl.session import spark_progress
from etl.stage import stage_main
from schemas.command import run
from schemas.config import Configuration
from schemas.errors import DataError
from schemas.progress import say
from schemas.settings import AnyFeature
from schemas.tables import Layout, encoded_schema, spark_schema

HASH_SPACE = float(1 << 64)


def encode(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Runs the stage and returns its counts: rows, and tokens and tokens cut off over all features."""
    layout = Layout.of(config)
    versions = {name: table_version(spark, layout.at("silver", name)) for name in ("fields", "ledger")}
    tables = {name: identity(spark, layout.at("silver", name), version) for name, version in versions.items()}
    fields = read_table(spark, layout.fields, versions["fields"])
    ledger = (
        read_table(spark, layout.ledger, versions["ledger"])
        .where("split IS NOT NULL")
        .select("record_id", "split")
    )
    if ledger.where("split = 'train'").isEmpty():
        raise DataError(
            f"no record of {config.dataset.name} is left for the training split: see silver/ledger for what became of "
            "them (filtered by which rule, duplicate of which record), or run the stage split first"
        )
    published = fields.join(ledger, "record_id", how="inner")
    classes = class_names(published, config)
    stored = {
        "classes": artifacts.store(json.dumps(classes).encode(), "classes", layout, config.storage).sha256
    }
    fitted = {}
    for feature in config.feature:
        with spark_progress(spark, f"fit {feature.name}"):
            fitted[feature.name] = fit(fields, ledger, feature, config)
        purpose = ARTIFACT_PURPOSE[feature.encode]
        stored[feature.name] = artifacts.store(fitted[feature.name], purpose, layout, config.storage).sha256
    rows = published.transform(lambda frame: encode_rows(frame, config, classes, fitted))
    with spark_progress(spark, "encode"):
        write_table(
            rows,
            layout.encoded,
            encoded_schema(config),
            config,
            "encode",
            {"artifacts": stored, "versions": versions, "made_from": encode_basis(config, tables)},
        )
    return count(read_table(spark, layout.encoded), config)


def class_names(published: DataFrame, config: Configuration) -> list[str]:
    """The labels of all published records, sorted; empty where no label is configured."""
    if config.columns.label is None:
        return []
    return sorted(row[0] for row in published.select(config.columns.label).distinct().collect())


def fit(fields: DataFrame, ledger: DataFrame, feature: AnyFeature, config: Configuration) -> bytes:
    """What the encoder of a feature learns from the texts of the training split, or from a sample of them.

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
        say(f"  {feature.name}: the tokenizer is trained on {share:.1%} of {total:,} bytes")
        limit = int(share * HASH_SPACE) - (1 << 63)
        train = train.where(sf.xxhash64("record_id") < sf.lit(limit))
    texts = fields.join(sf.broadcast(train), "record_id", how="left_semi").select(feature.column).toArrow()
    column = texts.column(0)
    return encoder.fit(
        (text for chunk in column.chunks for text in chunk.to_pylist()), feature, config.storage
    )


def encode_rows(
    published: DataFrame, config: Configuration, classes: Sequence[str], fitted: Mapping[str, bytes]
) -> DataFrame:
    """The rows of `silver/encoded` from the published records: columns of `fields_schema` and `split`."""
    columns = list(dict.fromkeys(feature.column for feature in config.feature))
    label = [config.columns.label] if config.columns.label is not None else []
    schema = encoded_schema(config)
    encoders = _batches(config, classes, dict(fitted), schema)
    names = list(dict.fromkeys(["record_id", "split", *label, *columns]))
    return published.select(*names).mapInArrow(encoders, spark_schema(schema))  # type: ignore[arg-type]


def _batches(
    config: Configuration, classes: Sequence[str], fitted: Mapping[str, bytes], schema: pa.Schema
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    features, label = list(config.feature), config.columns.label
    index = {name: number for number, name in enumerate(classes)}

    def encode_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Spark runs one worker a core already; the library's own threads would fight over them.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        encoders: list[tuple[AnyFeature, Encoder]] = [(feature, encoder_of(feature)) for feature in features]
        for batch in batches:
            arrays = [batch.column("record_id"), batch.column("split")]
            if label is not None:
                arrays.append(pa.array([index[name] for name in batch.column(label).to_pylist()], pa.int32()))
            for feature, encoder in encoders:
                arrays.extend(encoder.encode(batch.column(feature.column), fitted[feature.name], feature))
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return encode_batches


def count(encoded: DataFrame, config: Configuration) -> dict[str, int]:
    """Rows, and over all features the tokens before truncation and those that truncation cut off."""
    tokens = sum((sf.col(f"{f.name}_tokens").cast("long") for f in config.feature), sf.lit(0).cast("long"))
    cut = sum(
        (sf.greatest(sf.col(f"{f.name}_tokens") - f.length, sf.lit(0)).cast("long") for f in config.feature),
        sf.lit(0).cast("long"),
    )
    row = encoded.agg(sf.count("*"), sf.sum(tokens), sf.sum(cut)).collect()[0]
    return {"rows": row[0], "tokens": row[1] or 0, "tokens_cut": row[2] or 0}


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main("encode", __doc__, encode, argv)


if __name__ == "__main__":
    sys.exit(run(main))
