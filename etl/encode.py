"""encode: from the cleaned columns to rows that a model takes, by what the training split alone has taught.

Reads silver/fields and silver/ledger, writes silver/encoded and the artifacts (a tokenizer or statistics a feature,
class names), and silver/ledger again where outliers of a typed column are left out.
The join of the two is the one shuffle that the text crosses.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from common import storage
from common.command import run
from common.errors import DataError
from common.progress import say
from etl.encoders import Encoder, encoder_of
from etl.encoders.scalars import OUTLIER
from etl.lake.log import Commit, commit_facts, table_version
from etl.lake.tables import read_table, write_table
from etl.publication import artifacts
from etl.runs.completion import BEFORE_ENCODE, encode_basis, is_stored, ledger_before_encode
from etl.runs.increments import added_rows, differs_only_in
from etl.runs.stage import stage_main
from etl.spark.persist import kept
from etl.spark.sampling import in_sample
from etl.spark.session import spark_progress
from schemas.config import Configuration
from schemas.features import ScalarFeature, TypedFeature
from schemas.features.tokens import TokensFeature
from schemas.kinds import AnyFeature
from schemas.tables import Layout, encoded_schema, ledger_schema, spark_schema


def encode(spark: SparkSession, config: Configuration) -> Mapping[str, int]:
    """Runs the stage and returns its counts: rows, and tokens and tokens cut off over all features."""
    layout = Layout.of(config)
    source = Commit.existing(layout.fields, config.storage)
    ledger_version, ledger_identity = ledger_before_encode(config)
    tables = {"fields": source.identity, "ledger": ledger_identity}
    fields = read_table(spark, layout.fields, source.version)
    whole_ledger = read_table(spark, layout.ledger, ledger_version)
    ledger = whole_ledger.where("split IS NOT NULL").select("record_id", "split")
    if ledger.where("split = 'train'").isEmpty():
        raise DataError(
            f"no record of {config.dataset.name} is left for the training split: see silver/ledger for what became of "
            "them (filtered by which rule, duplicate of which record), or run the stage split first"
        )
    later = later_rows(spark, config, fields, ledger, encode_basis(config, tables))
    if later is not None:
        return encode_later(spark, config, later, encode_basis(config, tables))
    # Typed columns first: what they leave out as outliers teaches the others nothing.
    fitted = {}
    for typed in config.typed_features():
        with spark_progress(spark, f"fit {typed.name}"):
            fitted[typed.name] = fit_typed(fields, ledger, typed, config)
    left_out = write_outliers(spark, config, fields, whole_ledger, ledger_version, fitted)
    ledger = read_table(spark, layout.ledger).where("split IS NOT NULL").select("record_id", "split")
    if left_out and ledger.where("split = 'train'").isEmpty():
        raise DataError(
            f"every record of the training split of {config.dataset.name} was left out as an outlier: look at "
            "`outliers` of the typed features"
        )
    for feature in config.token_features():
        with spark_progress(spark, f"fit {feature.name}"):
            fitted[feature.name] = fit(fields, ledger, feature, config)
    published = fields.join(ledger, "record_id", how="inner")
    classes = class_names(published, config)
    stored = {
        "classes": artifacts.store(json.dumps(classes).encode(), "classes", layout, config.storage).sha256
    }
    for each in config.feature:
        purpose = encoder_of(each).ARTIFACT
        stored[each.name] = artifacts.store(fitted[each.name], purpose, layout, config.storage).sha256
    versions = {"fields": source.version, "ledger": table_version(layout.ledger, config.storage)}
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
    return count(read_table(spark, layout.encoded), config) | ({"outliers": left_out} if left_out else {})


def class_names(published: DataFrame, config: Configuration) -> list[str]:
    """The labels of all published records, sorted; empty where no label is configured."""
    if config.columns.label is None:
        return []
    return sorted(row[0] for row in published.select(config.columns.label).distinct().collect())


@dataclass(frozen=True)
class Later:
    """What an increment adds to silver/encoded, and what that was made with."""

    published: DataFrame
    artifacts: Mapping[str, str]


def later_rows(
    spark: SparkSession, config: Configuration, fields: DataFrame, ledger: DataFrame, basis: Mapping[str, Any]
) -> Later | None:
    """The published records that have come since silver/encoded was written; None where that has to be made anew.

    That is so where anything but new records separates the two, and where outliers are left out, since by which limits
    depends on all records.
    """
    layout = Layout.of(config)
    encoded, written = Commit.of(layout.encoded, config.storage), commit_facts(layout.ledger, config.storage)
    if not config.increments.go_on or encoded is None or "follows" not in written or dropping(config):
        return None
    made_from = encoded.facts.get("made_from")
    if (
        made_from is None
        or encoded.facts.get("stage") != "encode"
        or not differs_only_in(made_from, basis, "tables")
    ):
        return None
    known = made_from["tables"]
    if known["ledger"] not in written["follows"]:
        return None
    if not all(is_stored(sha256, layout, config.storage) for sha256 in encoded.facts["artifacts"].values()):
        return None
    new = added_rows(spark, layout.fields, known["fields"], basis["tables"]["fields"], config.storage)
    if new is None:
        return None
    return Later(new.join(ledger, "record_id", how="inner"), encoded.facts["artifacts"])


def encode_later(
    spark: SparkSession, config: Configuration, later: Later, basis: Mapping[str, object]
) -> Mapping[str, int]:
    """Adds rows to silver/encoded, by what an earlier training split has taught; new labels follow the known ones."""
    layout = Layout.of(config)
    contents = {
        name: storage.read_bytes(storage.join(layout.artifacts, sha256), config.storage)
        for name, sha256 in later.artifacts.items()
    }
    known = json.loads(contents.pop("classes"))
    classes = known + sorted(set(class_names(later.published, config)) - set(known))
    stored = {**later.artifacts}
    stored["classes"] = artifacts.store(
        json.dumps(classes).encode(), "classes", layout, config.storage
    ).sha256
    versions = {
        name: table_version(layout.at("silver", name), config.storage) for name in ("fields", "ledger")
    }
    with spark_progress(spark, "encode"):
        write_table(
            encode_rows(later.published, config, classes, contents),
            layout.encoded,
            encoded_schema(config),
            config,
            "encode",
            {"artifacts": stored, "versions": versions, "made_from": basis},
            append=True,
        )
    return count(read_table(spark, layout.encoded), config)


def dropping(config: Configuration) -> list[ScalarFeature]:
    """The typed columns whose outliers are left out."""
    return [
        feature
        for feature in config.typed_features()
        if isinstance(feature, ScalarFeature)
        and feature.outliers is not None
        and feature.outliers.action == "drop"
    ]


def fit_typed(fields: DataFrame, ledger: DataFrame, feature: TypedFeature, config: Configuration) -> bytes:
    """What the encoder of a typed column learns from the training split, or from `fit_rows` of its rows.

    Those are chosen by the hash of the record id.
    """
    train = ledger.where("split = 'train'").select("record_id")
    if isinstance(feature, ScalarFeature):
        share = min(1.0, feature.fit_rows / max(1, train.count()))
        if share < 1:
            train = train.where(in_sample(share))
    values = fields.select("record_id", feature.column).join(train, "record_id", how="left_semi")
    if not isinstance(feature, ScalarFeature):  # few different values, of however many rows
        counts = values.groupBy(feature.column).count().collect()
        return encoder_of(feature).fit(
            Counter({row[0]: int(row[1]) for row in counts}), feature, config.storage
        )
    column = values.select(feature.column).toArrow().column(0)
    return encoder_of(feature).fit(column.to_pylist(), feature, config.storage)


def write_outliers(
    spark: SparkSession,
    config: Configuration,
    fields: DataFrame,
    ledger: DataFrame,
    version: int,
    fitted: Mapping[str, bytes],
) -> int:
    """Writes the ledger without the records that are outliers of a column with `action = "drop"`; returns their number.

    They are `filtered` then, for the reason `<feature>.outlier`. `ledger` is the version that `split` left; where
    nothing is left out now, nor was before, nothing is written.
    """
    layout = Layout.of(config)
    leaving_out = dropping(config)
    facts = commit_facts(layout.ledger, config.storage)
    if not leaving_out and BEFORE_ENCODE not in facts:
        return 0
    of_split = {name: value for name, value in facts.items() if name != BEFORE_ENCODE}
    columns = ["record_id", *(feature.column for feature in leaving_out)]
    split_only = ledger.where("split IS NOT NULL").select("record_id")
    values = fields.select(*columns).join(split_only, "record_id", how="left_semi")
    found = values.mapInArrow(_outliers(leaving_out, dict(fitted)), "record_id string, outlier string")
    with kept(found) as outliers:
        is_outlier = sf.col("outlier").isNotNull()
        marked = ledger.join(outliers, "record_id", how="left").select(
            "record_id",
            "source",
            sf.when(is_outlier, "filtered").otherwise(sf.col("status")).alias("status"),
            sf.when(is_outlier, sf.col("outlier")).otherwise(sf.col("reason")).alias("reason"),
            sf.when(~is_outlier, sf.col("cluster_id")).alias("cluster_id"),
            sf.when(~is_outlier, sf.col("split")).alias("split"),
        )
        noted = {**of_split, BEFORE_ENCODE: version}
        write_table(
            marked, layout.ledger, ledger_schema(), config, str(of_split.get("stage", "split")), noted
        )
        return outliers.count()


def _outliers(
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
                {"record_id": batch.column("record_id"), "outlier": pa.array(reasons, pa.string())}
            )
            yield from table.filter(pc.is_valid(table["outlier"])).to_batches()

    return find


def fit(fields: DataFrame, ledger: DataFrame, feature: TokensFeature, config: Configuration) -> bytes:
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
        train = train.where(in_sample(share))
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
    features = config.token_features()
    tokens = sum((sf.col(f"{f.name}_tokens").cast("long") for f in features), sf.lit(0).cast("long"))
    cut = sum(
        (sf.greatest(sf.col(f"{f.name}_tokens") - f.length, sf.lit(0)).cast("long") for f in features),
        sf.lit(0).cast("long"),
    )
    row = encoded.agg(sf.count("*"), sf.sum(tokens), sf.sum(cut)).collect()[0]
    return {"rows": row[0], "tokens": row[1] or 0, "tokens_cut": row[2] or 0}


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main("encode", __doc__, encode, argv)


if __name__ == "__main__":
    sys.exit(run(main))
