"""Spark queries of `etl/figures/summary.py`: each returns a row for each class, rule or bin of length."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from etl.encoders.lengths import keeping, rounded, tokens_cut
from etl.encoders.scalars import MISSING, OUTLIER
from etl.figures.facts import Cluster, LabelConflict, Lengths, RuleEffect, SourceFacts, TokenFacts, TypedFacts
from etl.sources.accounting import faults, shares, told_silent
from schemas.config import Configuration
from schemas.features import TypedFeature
from schemas.tables import SPLITS

LARGEST_CLUSTERS = 12
UNLABELLED = "(no label)"
"""Stands for a missing label among the class names."""
NO_TEXT = ""
"""Stands for the text column of a data set that has none."""
LOST = "lost"
"""Outcome of a record that the ledger does not know, or that is kept but in no split."""


def with_outcomes(config: Configuration, fields: DataFrame, ledger: DataFrame) -> DataFrame:
    """Return a narrow row for each record: label, group, the length of each text, its cluster, and its outcome.

    `outcome` is the split of a published record, else the status; LOST where the ledger contradicts itself or does
    not know the record. `reason` is that of a filtered record. The texts themselves do not cross the shuffle.
    """
    lengths = _lengths(config, "text_characters")
    group = F.col(config.columns.group) if config.columns.group is not None else F.lit(None)
    narrow = fields.select("record_id", _label(config), group.alias("group"), *lengths)
    kept, split = F.col("status") == "kept", F.col("split")
    outcome = (
        F.when(kept & split.isin(*SPLITS), split)
        .when(~kept & split.isNull(), F.col("status"))
        .otherwise(LOST)
    )
    return narrow.join(ledger, on="record_id", how="full").select(
        "record_id",
        "label",
        "group",
        *(f"length_{i}" for i in range(len(lengths))),
        "cluster_id",
        "status",
        outcome.alias("outcome"),
        F.when(F.col("status") == "filtered", F.coalesce("reason", F.lit("(no rule)"))).alias("reason"),
    )


def as_read(config: Configuration, fields: DataFrame) -> DataFrame:
    """Return a narrow row for each record: label, and the length of each text before cleaning."""
    return fields.select(_label(config), *_lengths(config, "text_characters_read"))


def _lengths(config: Configuration, column: str) -> list[Column]:
    """Return the length of each text, from a column of silver/fields that lists them."""
    return [F.col(column)[i].alias(f"length_{i}") for i in range(len(config.text_columns()))]


def count_by_length(config: Configuration, frame: DataFrame, *keys: str) -> DataFrame:
    """Return count, sums and maxima of the text lengths of `frame` by `keys`, label, column and bin of length.

    `frame` comes from `as_read` or `with_outcomes`. Without text columns each record counts once, as NO_TEXT.
    """
    lengths = [
        F.struct(F.lit(column).alias("column"), F.coalesce(f"length_{i}", F.lit(0)).alias("length"))
        for i, column in enumerate(config.text_columns())
    ]
    none = F.struct(F.lit(NO_TEXT).alias("column"), F.lit(0).alias("length"))
    return (
        frame.select(*keys, "label", F.explode(F.array(*(lengths or [none]))).alias("text"))
        .groupBy(*keys, "label", F.col("text.column"), _bin(F.col("text.length")))
        .agg(
            F.count("*").alias("count"),
            F.sum("text.length").alias("total"),
            F.max("text.length").alias("maximum"),
        )
    )


def _label(config: Configuration) -> Column:
    if config.columns.label is None:
        return F.lit(None).cast("string").alias("label")
    return F.coalesce(F.col(config.columns.label), F.lit(UNLABELLED)).alias("label")


def _bin(length: Column) -> Column:
    """Return k for lengths in [2^k, 2^(k+1)), -1 for 0; from the binary digits, a rounded logarithm can miss."""
    return F.when(length > 0, F.length(F.bin(length)) - 1).otherwise(-1).alias("bin")


def total_of(rows: Iterable[Row]) -> int:
    return sum(row["count"] for row in rows)


def with_outcome(rows: Iterable[Row], outcome: str) -> list[Row]:
    return [row for row in rows if row["outcome"] == outcome]


def sums_by(rows: Iterable[Row], key: str) -> dict[str, int]:
    """Return sums of `count` by a column, the largest first."""
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row[key]] += row["count"]
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def lengths_of(rows: Iterable[Row]) -> Lengths:
    bins: Counter[int] = Counter()
    total = maximum = 0
    for row in rows:
        # Counts of tokens come one by one, and fall into the same bins.
        bins[row["bin"] if "bin" in row else row["tokens"].bit_length() - 1] += row["count"]
        total += row["total"]
        maximum = max(maximum, row["maximum"])
    return Lengths(bins.total(), total, maximum, dict(sorted(bins.items())))


def source_facts(config: Configuration, sources: DataFrame) -> list[SourceFacts]:
    unreadable = F.col("status") == "unreadable"
    silent = {name: column for name, column in faults().items() if name != "unbalanced"}
    rows = (
        sources.groupBy("source_index")
        .agg(
            F.count("*").alias("files"),
            F.count_if(unreadable).alias("unreadable"),
            F.sum("bytes").alias("bytes"),
            # An unreadable file stands in the quarantine as one record.
            F.sum(F.greatest(F.coalesce("records", F.lit(0)), unreadable.cast("long"))).alias("records"),
            F.sum(F.greatest(F.coalesce("quarantined", F.lit(0)), unreadable.cast("long"))).alias(
                "quarantined"
            ),
            F.array_sort(F.collect_set("encoding")).alias("encodings"),
            *(column.alias(name) for name, column in silent.items()),
            F.struct(*(column.alias(name) for name, column in shares(config).items())).alias("sizes"),
        )
        .collect()
    )
    return [
        SourceFacts(
            row["source_index"],
            config.source[row["source_index"]].path,
            config.source[row["source_index"]].format,
            row["files"],
            row["unreadable"],
            row["bytes"] or 0,
            row["records"],
            row["quarantined"],
            row["sizes"].asDict(),
            row["silent"],
            told_silent(row["first_silent"]) if row["silent"] else "",
            tuple(row["encodings"]),
        )
        for row in sorted(rows, key=itemgetter("source_index"))
    ]


def rule_effects(fields: DataFrame) -> dict[str, RuleEffect]:
    rows = (
        fields.select(F.explode("effects").alias("effect"))
        .groupBy("effect.rule")
        .agg(F.count("*").alias("records"), F.sum("effect.count").alias("changes"))
        .collect()
    )
    by_rule = {row["rule"]: RuleEffect(row["records"], row["changes"]) for row in rows}
    return dict(sorted(by_rule.items()))


def class_groups(config: Configuration, outcomes: DataFrame) -> dict[str, int]:
    if config.columns.label is None:
        return {}
    counts = [F.count_distinct("cluster_id").alias("clusters"), F.count_distinct("group").alias("groups")]
    rows = outcomes.where(F.col("outcome").isin(*SPLITS)).groupBy("label").agg(*counts).collect()
    grouped = config.columns.group is not None
    return {r["label"]: min(r["clusters"], r["groups"]) if grouped else r["clusters"] for r in rows}


@dataclass(frozen=True)
class Conflicts:
    """Clusters whose records have different labels: their records, their number, and the largest."""

    records: int
    clusters: int
    largest: list[LabelConflict]


def clusters_of(outcomes: DataFrame) -> tuple[dict[int, int], list[Cluster], Conflicts]:
    """Return clusters by size, the largest ones, and those with several labels."""
    label = F.when(F.col("label") != UNLABELLED, F.col("label"))
    survivor = F.min_by("record_id", F.struct(F.col("status") != "kept", "record_id"))
    clusters = (
        outcomes.where(F.col("cluster_id").isNotNull())
        .groupBy("cluster_id")
        .agg(
            F.count("*").alias("records"),
            survivor.alias("record_id"),
            F.count_distinct(label).alias("labels"),
        )
    )
    contested = F.col("labels") > 1
    sizes = clusters.groupBy("records", contested.alias("contested")).count().collect()
    by_size: Counter[int] = Counter()
    for row in sizes:
        by_size[row["records"]] += row["count"]
    torn = [row for row in sizes if row["contested"]]
    return (
        dict(sorted(by_size.items())),
        _largest(clusters.where("records > 1")),
        Conflicts(
            sum(row["records"] * row["count"] for row in torn),
            sum(row["count"] for row in torn),
            _with_labels(outcomes, _largest(clusters.where(contested))) if torn else [],
        ),
    )


def _largest(clusters: DataFrame) -> list[Cluster]:
    rows = clusters.orderBy(F.desc("records"), "cluster_id").limit(LARGEST_CLUSTERS).collect()
    return [Cluster(row["cluster_id"], row["records"], row["record_id"]) for row in rows]


def _with_labels(outcomes: DataFrame, clusters: list[Cluster]) -> list[LabelConflict]:
    wanted = F.col("cluster_id").isin([cluster.cluster_id for cluster in clusters])
    rows = outcomes.where(wanted).groupBy("cluster_id", "label").count().collect()
    return [
        LabelConflict(
            cluster, sums_by([row for row in rows if row["cluster_id"] == cluster.cluster_id], "label")
        )
        for cluster in clusters
    ]


def token_facts(
    config: Configuration, encoded: DataFrame
) -> tuple[dict[str, int], dict[str, dict[str, TokenFacts]]]:
    """Return rows of silver/encoded by split, and the tokens of each feature of text by split."""
    token_features = config.token_features()
    if not token_features:
        by_split = encoded.groupBy("split").count().collect()
        return {row["split"]: int(row["count"]) for row in by_split}, {}
    features = F.array(
        *(
            F.struct(
                F.lit(f.name).alias("feature"),
                F.coalesce(F.col(f"{f.name}_tokens"), F.lit(0)).alias("tokens"),
                tokens_cut(F.col(f"{f.name}_tokens"), f).alias("cut"),
            )
            for f in token_features
        )
    )
    rows = (
        encoded.select("split", F.explode(features).alias("one"))
        .groupBy("split", "one.feature", rounded(F.col("one.tokens")).alias("tokens"))
        .agg(
            F.count("*").alias("count"),
            F.sum("one.tokens").alias("total"),
            F.max("one.tokens").alias("maximum"),
            F.sum("one.cut").alias("cut"),
            F.count_if(F.col("one.cut") > 0).alias("cut_rows"),
        )
        .collect()
    )
    limits = {feature.name: feature.limit for feature in token_features}
    parts: dict[tuple[str, str], list[Row]] = defaultdict(list)
    rows_of_split = Counter[str]()
    for row in rows:
        parts[row["feature"], row["split"]].append(row)
        if row["feature"] == token_features[0].name:  # which every row has once
            rows_of_split[row["split"]] += row["count"]
    tokens: dict[str, dict[str, TokenFacts]] = {name: {} for name in limits}
    for name, split in ((name, split) for name in limits for split in SPLITS if (name, split) in parts):
        part = parts[name, split]
        keeps = keeping((row["count"], row["total"]) for row in part) if limits[name] is not None else {}
        cut, cut_rows = sum(row["cut"] for row in part), sum(row["cut_rows"] for row in part)
        tokens[name][split] = TokenFacts(lengths_of(part), limits[name], cut, cut_rows, keeps)
    return dict(rows_of_split), tokens


def typed_facts(
    config: Configuration, encoded: DataFrame, effects: Mapping[str, RuleEffect]
) -> dict[str, TypedFacts]:
    """Return the effects on each typed column, and the rows to be published that lack a value or are outliers."""
    features = config.typed_features()
    if not features:
        return {}
    flags = [F.col(f"{feature.name}_flags") for feature in features]
    row = encoded.agg(
        *(F.count_if(flag.bitwiseAND(MISSING) > 0) for flag in flags),
        *(F.count_if(flag.bitwiseAND(OUTLIER) > 0) for flag in flags),
    ).collect()[0]

    def records(feature: TypedFeature, what: str) -> int:
        found = effects.get(f"{feature.name}.{what}")
        return 0 if found is None else found.records

    return {
        feature.name: TypedFacts(
            column=feature.column,
            kind=feature.encode,
            normalised=records(feature, "normalised"),
            invalid=records(feature, "invalid"),
            missing=records(feature, "missing"),
            published_missing=int(row[place]),
            published_outliers=int(row[len(features) + place]),
        )
        for place, feature in enumerate(features)
    }
