"""encode: turns the cleaned columns into rows for a model, with what it learns from the training split alone.

Reads silver/fields and silver/ledger, writes silver/encoded and the artifacts (a tokenizer or statistics a feature,
class names). The join of the two tables is the one shuffle that the text crosses. New records are encoded with what
the first run has learned. Where outliers are left out, everything is rebuilt: their limits depend on all records.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from common import storage
from common.errors import DataError, UsageError
from common.progress import log
from common.storage import Storage
from etl.encoders import encoder_of
from etl.encoders.fitting import fit, fit_categories, fit_scalars
from etl.encoders.lengths import keeping, rounded, tokens_cut
from etl.encoders.rows import encode_rows, outliers_of
from etl.lake.facts import EncodedFacts, Fingerprint, LedgerFacts
from etl.lake.outcomes import rows_to_publish
from etl.publication import artifacts
from etl.runs.completion import Stage, by_the_log, fingerprint
from etl.runs.run import Run, Tables
from etl.spark.persist import persisted
from etl.spark.session import spark_progress
from provenance.checksums import sha256_of
from schemas.config import Configuration
from schemas.features import ScalarFeature
from schemas.kept_tokens import KeptTokens
from schemas.tables import Layout, encoded_schema


def encode(run: Run) -> Mapping[str, int]:
    """Run the stage and return its counts: rows, and tokens and tokens cut off over all features."""
    config, source, found = run.config, run.existing("fields"), run.existing("ledger")
    of_ledger = found.facts(LedgerFacts)
    if of_ledger is not None and of_ledger.fingerprint.inputs.get("fields") != source.identity:
        raise UsageError(
            f"{run.uri('fields')} has changed since {run.uri('ledger')} was made; run the stage split first"
        )
    now = encode_fingerprint(config, source.identity, found.identity)
    fields = run.read("fields", source.version)
    ledger = run.read("ledger", found.version).where("split IS NOT NULL").select("record_id", "split")
    if ledger.where("split = 'train'").isEmpty():
        raise DataError(
            f"no record of {config.dataset.name} is left for the training split: see silver/ledger for what became of "
            "them (filtered by which rule, duplicate of which record), or run the stage split first"
        )
    with ExitStack() as stack:
        earlier = earlier_rows(run, now)
        outliers: DataFrame | None = None
        if earlier is not None:
            fields, fitted, known = earlier.new_fields, earlier.fitted, earlier.classes
        else:
            known = []
            # Typed columns first: outliers that they leave out teach the others nothing.
            fitted = {}
            scalars = [one for one in config.typed_features() if isinstance(one, ScalarFeature)]
            if scalars:
                with spark_progress(run.spark, "fit numbers"):
                    fitted |= fit_scalars(fields, ledger, scalars, config)
            for typed in config.typed_features():
                if typed.name not in fitted:
                    with spark_progress(run.spark, f"fit {typed.name}"):
                        fitted[typed.name] = fit_categories(fields, ledger, typed, config)
            if config.dropping_features():
                records = fields.join(ledger.select("record_id"), "record_id", "left_semi")
                outliers = stack.enter_context(
                    persisted(outliers_of(records, config.dropping_features(), fitted))
                )
                ledger = without_outliers(ledger, outliers, config)
            for feature in config.feature:
                if feature.name not in fitted:
                    with spark_progress(run.spark, f"fit {feature.name}"):
                        fitted[feature.name] = fit(fields, ledger, feature, config)
        published = fields.join(ledger, "record_id", how="inner")
        classes = known + sorted(set(class_names(published, config)) - set(known))
        rows = encode_rows(published, config, classes, fitted)
        if outliers is not None:
            rows = rows.unionByName(outliers, allowMissingColumns=True)
        facts = EncodedFacts.by("encode", config, now, artifacts=store(config, classes, fitted))
        with spark_progress(run.spark, "encode"):
            run.write(rows, "encoded", encoded_schema(config), facts, append=earlier is not None)
        left_out = 0 if outliers is None else outliers.count()
    counts = count(rows_to_publish(run.read("encoded")), config)
    return counts | ({"outliers": left_out} if left_out else {})


def without_outliers(ledger: DataFrame, outliers: DataFrame, config: Configuration) -> DataFrame:
    """Return the remaining published records. Raises DataError where none of the training split is left."""
    left = ledger.join(outliers, "record_id", "left_anti")
    if left.where("split = 'train'").isEmpty():
        raise DataError(
            f"every record of the training split of {config.dataset.name} was left out as an outlier: look at "
            "`outliers` of the typed features"
        )
    return left


def class_names(published: DataFrame, config: Configuration) -> list[str]:
    """Return the labels of all published records, sorted; empty where no label is configured."""
    if config.columns.label is None:
        return []
    return sorted(row[0] for row in published.select(config.columns.label).distinct().collect())


def store(config: Configuration, classes: list[str], fitted: Mapping[str, bytes]) -> dict[str, str]:
    """Store the artifacts that rows are encoded with; return the SHA-256 of each by feature, and of `classes`."""
    layout = Layout.of(config)
    purposes = {feature.name: encoder_of(feature).ARTIFACT for feature in config.feature}
    contents = {"classes": json.dumps(classes).encode(), **fitted}
    return {
        name: artifacts.store(content, purposes.get(name, name), layout, config.storage).sha256
        for name, content in contents.items()
    }


@dataclass(frozen=True)
class EarlierRows:
    """Artifacts behind silver/encoded, and the new records."""

    new_fields: DataFrame
    fitted: dict[str, bytes]
    classes: list[str]
    """New labels follow these."""


def earlier_rows(run: Run, now: Fingerprint) -> EarlierRows | None:
    """Return None where silver/encoded has to be rebuilt: where anything but new records has changed."""
    config, layout, encoded = run.config, run.layout, run.commit("encoded")
    facts = None if encoded is None else encoded.facts(EncodedFacts)
    if facts is None or not config.increments.go_on or config.dropping_features() or facts.fingerprint == now:
        return None
    if not now.differs_only_in(facts.fingerprint, "fields", "ledger"):
        return None
    if not all(is_stored(sha256, layout, config.storage) for sha256 in facts.artifacts.values()):
        return None
    added = {
        name: run.added(name, str(known), str(now.inputs[name]))
        for name, known in facts.fingerprint.inputs.items()
        if name in ("fields", "ledger")
    }
    new_fields = added.get("fields")
    if new_fields is None or added.get("ledger") is None:
        return None
    fitted = {
        name: storage.read_bytes(storage.join(layout.artifacts, sha256), config.storage)
        for name, sha256 in facts.artifacts.items()
    }
    return EarlierRows(new_fields, fitted, json.loads(fitted.pop("classes")))


def count(encoded: DataFrame, config: Configuration) -> dict[str, int]:
    """Return rows, and over all features the tokens before truncation and those that truncation cut off.

    The log says what the length of each feature keeps of the training split, where it cuts anything.
    """
    features = config.token_features()
    if not features:
        return {"rows": encoded.count(), "tokens": 0, "tokens_cut": 0}
    tokens = {f.name: sf.coalesce(sf.col(f"{f.name}_tokens"), sf.lit(0)).cast("long") for f in features}
    each = sf.array(
        *(
            sf.struct(
                sf.lit(f.name).alias("feature"),
                tokens[f.name].alias("tokens"),
                tokens_cut(tokens[f.name], f).alias("cut"),
            )
            for f in features
        )
    )
    rows = (
        encoded.select(sf.explode(each).alias("one"), (sf.col("split") == "train").alias("trains"))
        .groupBy("one.feature", "trains", rounded(sf.col("one.tokens")).alias("tokens"))
        .agg(sf.count("*").alias("rows"), sf.sum("one.tokens").alias("total"), sf.sum("one.cut").alias("cut"))
        .collect()
    )
    by_feature = {f.name: [row for row in rows if row["feature"] == f.name] for f in features}
    for feature in features:
        mine = [row for row in by_feature[feature.name] if row["trains"]]
        whole, cut = (sum(row[key] for row in mine) for key in ("total", "cut"))
        if cut:
            keeps = keeping((row["rows"], row["total"]) for row in mine)
            assert feature.limit is not None
            kept = KeptTokens(length=feature.limit, share=1 - cut / whole, keeping=keeps)
            log(f"  {feature.name}: {kept.told}")
    return {
        "rows": sum(row["rows"] for row in by_feature[features[0].name]),
        "tokens": sum(row["total"] for row in rows),
        "tokens_cut": sum(row["cut"] for row in rows),
    }


def encode_fingerprint(config: Configuration, fields: str, ledger: str) -> Fingerprint:
    """Return the inputs of `encode`, given the identities of its tables; a loaded tokenizer counts by its content."""
    loaded = {
        f"tokenizer {feature.name}": hashlib.sha256(
            encoder_of(feature).fit((), feature, config.storage)
        ).hexdigest()
        for feature in config.token_features()
        if feature.tokenizer is not None
    }
    return fingerprint("encode", config, fields=fields, ledger=ledger, **loaded)


def is_encoded(data: Tables) -> bool:
    """Return True where the stage is complete, its artifacts being as they were stored."""
    config, layout = data.config, data.layout
    fields, ledger, encoded = (data.commit(name) for name in ("fields", "ledger", "encoded"))
    if fields is None or ledger is None or encoded is None:
        return False
    facts = encoded.made_by(encode_fingerprint(config, fields.identity, ledger.identity), EncodedFacts)
    return facts is not None and all(
        is_stored(sha256, layout, config.storage) for sha256 in facts.artifacts.values()
    )


def is_stored(sha256: str, layout: Layout, options: Storage) -> bool:
    """Return True where an artifact exists as it was stored."""
    location = storage.join(layout.artifacts, sha256)
    return storage.exists(location, options) and sha256_of(location, options)[0] == sha256


STAGE = Stage("encode", encode, by_the_log(is_encoded))
