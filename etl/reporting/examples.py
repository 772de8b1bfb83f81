"""Examples in the report: short snippets of records in which personal data is masked, whatever rules are on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.figures.facts import Cluster
from etl.gates.rejects import OF_COLUMN
from etl.lake.tables import read_records, read_table
from etl.rules.personal_data import LONGEST, NOTHING, Mask, rule_of, with_some_masks
from etl.rules.registry import Edit, Filter, Rule, build_rules
from schemas.config import TEXTS, Configuration
from schemas.tables import Layout

SNIPPET = 160
"""Characters of a snippet."""
LEAD = 48
"""Characters that a snippet shows before its subject."""


@dataclass(frozen=True)
class Example:
    """Effect of a rule on a record: the text right before it and right after.

    `before` is empty where it would look the same masked, and either where later rules bring personal data to light.
    """

    rule: str
    record_id: str
    before: str
    after: str
    left_out: bool = False
    """The rule left the record out, so that no text follows."""
    sign: str = ""
    """Mask by which a rule for personal data shows."""


@dataclass(frozen=True)
class Reason:
    """Reason for quarantine: the number of its records, and one of them by its place."""

    reason: str
    records: int
    detail: str
    place: str


def rule_examples(
    spark: SparkSession, config: Configuration, versions: Mapping[str, int], mask: Mask
) -> list[Example]:
    """Return up to two records for each effective rule, chosen by hash among those that few rules touched.

    The rules are applied to them once more, so that each example shows the effect of its rule alone.
    """
    layout = Layout.of(config)
    chosen = _chosen(read_table(spark, layout.fields, versions.get("fields")))
    # Effects on typed columns and images have sections of their own (etl/reporting).
    typed = {feature.name for feature in config.typed_features()} | set(config.image_columns())
    chosen = {name: records for name, records in chosen.items() if rule_of(name) not in typed}
    ids = sorted({record_id for records in chosen.values() for record_id in records})
    texts = _texts(spark, layout.records, versions.get("records"), config, ids)
    rules = build_rules(with_some_masks(config.clean))
    return [
        example_of(rule, record_id, texts[record_id], rules, mask)
        for rule, records in sorted(chosen.items())
        for record_id in records
        if record_id in texts
    ]


def _chosen(fields: DataFrame) -> dict[str, list[str]]:
    """Return record ids by rule."""
    few = F.size("effects")
    rows = (
        fields.select(
            "record_id",
            F.struct(few, F.xxhash64("record_id")).alias("first"),
            F.struct(few, F.hash("record_id"), "record_id").alias("second"),
            F.explode("effects.rule").alias("rule"),
        )
        .groupBy("rule")
        .agg(F.min_by("record_id", "first").alias("first"), F.min_by("record_id", "second").alias("second"))
        .collect()
    )
    return {row["rule"]: list(dict.fromkeys([row["first"], row["second"]])) for row in rows}


def _texts(
    spark: SparkSession, uri: str, version: int | None, config: Configuration, ids: Sequence[str]
) -> dict[str, list[str]]:
    """Return the configured texts of some records of a table, their first `LONGEST` characters."""
    columns = [F.coalesce(F.substring(c, 1, LONGEST), F.lit("")).alias(c) for c in config.text_columns()]
    rows = read_records(spark, uri, read_table(spark, uri, version), ids, columns)
    return {row["record_id"]: [row[column] for column in config.text_columns()] for row in rows}


def example_of(
    name: str, record_id: str, texts: Sequence[str], rules: Sequence[tuple[str, Rule]], mask: Mask
) -> Example:
    """Return the effect of the rule `name` on a record with the `texts`, one for each text column.

    It is shown where the masked texts before and after it first differ; where they do not, at the first mask.
    """
    steps = [list(texts)]
    for _, rule in rules:
        now = steps[-1]
        steps.append([rule.apply(text)[0] for text in now] if isinstance(rule, Edit) else now)
    names = [rule for rule, _ in rules]
    place = names.index(name if name in names else rule_of(name))
    applied = rules[place][1]
    cut_off = [len(text) >= LONGEST for text in texts]
    before, after, cleaned = (
        [mask.marked(text, cut) for text, cut in zip(steps[i], cut_off, strict=True)]
        for i in (place, place + 1, -1)
    )

    def shown(text: str, final: str, first: int) -> str:
        return snippet(text, first) if mask.hides_as_much(text, final) else ""

    if isinstance(applied, Filter):
        met = next((i for i, text in enumerate(steps[place]) if applied.drops(text)), 0)
        # A rule that drops records is shown by its mask there.
        sign = mask.signs.get(rule_of(name))
        first = max(before[met].find(sign), 0) if sign else 0
        text = shown(before[met], cleaned[met], first)
        return Example(name, record_id, text, "", left_out=True, sign=sign or "")
    for old, new, final in zip(before, after, cleaned, strict=True):
        if old != new:
            pairs = enumerate(zip(old, new, strict=False))
            first = next((i for i, (x, y) in pairs if x != y), min(len(old), len(new)))
            return Example(name, record_id, shown(old, final, first), shown(new, final, first))
    sign = mask.signs.get(rule_of(name))
    new, final, first = next(
        (
            (text, final, text.find(sign))
            for text, final in zip(after, cleaned, strict=True)
            if sign and sign in text
        ),
        (after[0], cleaned[0], 0),
    )
    return Example(name, record_id, "", shown(new, final, first), sign=sign or "")


def snippet(text: str, place: int = 0) -> str:
    """Return the characters around a place, with signs for invisible ones."""
    start = 0 if place < SNIPPET // 2 else place - LEAD
    piece = visible(text[start : start + SNIPPET])
    return ("…" if start else "") + piece + ("…" if start + SNIPPET < len(text) else "")


def visible(text: str) -> str:
    """Return line breaks, tabs, runs of spaces and characters without a shape as signs: `↵`, `⇥`, `·`, `[U+200B]`."""
    signs = {"\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "␣"}
    text = text.replace(NOTHING, "").replace("  ", "··")
    return "".join(signs.get(c) or (c if c.isprintable() else f"[U+{ord(c):04X}]") for c in text)


def cluster_snippets(
    spark: SparkSession,
    config: Configuration,
    clusters: Iterable[Cluster],
    versions: Mapping[str, int],
    mask: Mask,
) -> dict[str, str]:
    """Return the beginning of the cleaned text of each cluster's survivor, by its record id."""
    if config.compared_as() != TEXTS:
        return {}
    column = config.text_columns().index(config.compared_columns()[0])
    ids = sorted({cluster.record_id for cluster in clusters})
    texts = _texts(spark, Layout.of(config).fields, versions.get("fields"), config, ids)
    return {record_id: snippet(mask(values[column])) for record_id, values in texts.items()}


def quarantine_reasons(
    spark: SparkSession, config: Configuration, versions: Mapping[str, int], mask: Mask
) -> list[Reason]:
    """Return each reason with its number of records, and the place of the first one, masked; never its content.

    A reason that is about a column stands once for each column.
    """
    place = F.struct("source_path", "source_position", "detail")
    rows = (
        read_table(spark, Layout.of(config).quarantine, versions.get("quarantine"))
        .groupBy("reason", F.regexp_extract("detail", OF_COLUMN, 0).alias("column"))
        .agg(F.count("*").alias("records"), F.min(place).alias("first"))
        .collect()
    )
    return [
        Reason(
            row["reason"],
            row["records"],
            mask(row["first"]["detail"]),
            f"{mask(row['first']['source_path'])}, at {row['first']['source_position'] or 0:,}",
        )
        for row in sorted(rows, key=lambda row: (-row["records"], row["reason"], row["column"]))
    ]
