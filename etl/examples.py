"""What the report shows of single records: short snippets in which personal data is masked, whatever rules are on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.delta_tables import read_table
from etl.facts import Cluster
from etl.rules.personal_data import MaskEmails, MaskIpAddresses, MaskPhones
from schemas.config import Configuration
from schemas.settings import Clean
from schemas.tables import Layout

LONGEST = 100_000
"""Characters of a record that are looked at for a snippet."""
LONGEST_ADDRESS = 320
SNIPPET = 160
"""Characters of a snippet."""
LEAD = 48
"""Characters that a snippet shows before what it is about."""


class Mask:
    """Masks personal data, whether or not the rules that do so are on."""

    def __init__(self, clean: Clean) -> None:
        self.edits = [MaskEmails(clean.emails), MaskPhones(clean.phones), MaskIpAddresses(clean.ip_addresses)]
        self.signs = [clean.emails.mask, clean.phones.mask, clean.ip_addresses.mask]

    def __call__(self, text: str) -> str:
        cut_off = len(text) >= LONGEST
        for edit in self.edits:
            text, _ = edit.apply(text)
        # Where the text was cut off, the half of an address may stand at its end.
        return text[:-LONGEST_ADDRESS] if cut_off else text

    def hides_as_much(self, before: str, after: str) -> bool:
        """False where cleaning brought personal data to light (`joe&#64;…`) that is still legible in `before`."""
        return all(sign and before.count(sign) >= after.count(sign) for sign in self.signs)


@dataclass(frozen=True)
class Example:
    """A record that a rule changed or filtered out; `before` is empty where it is not to be shown."""

    rule: str
    record_id: str
    before: str
    after: str


@dataclass(frozen=True)
class Reason:
    """Why records are in the quarantine: how many, and one of them by its place."""

    reason: str
    records: int
    detail: str
    place: str


def rule_examples(
    spark: SparkSession, config: Configuration, versions: Mapping[str, int], mask: Mask
) -> list[Example]:
    """Up to two records for each rule that did something, chosen by hash among those that few rules touched."""
    layout = Layout.of(config)
    fields = read_table(spark, layout.fields, versions.get("fields"))
    chosen = _chosen(fields)
    ids = sorted({record_id for records in chosen.values() for record_id in records})
    before = _texts(read_table(spark, layout.records, versions.get("records")), config, ids)
    after = _texts(fields, config, ids)
    return [
        example_of(rule, record_id, before[record_id], after[record_id], mask)
        for rule, records in sorted(chosen.items())
        for record_id in records
        if record_id in before and record_id in after
    ]


def _chosen(fields: DataFrame) -> dict[str, list[str]]:
    """Record ids by rule."""
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


def _texts(frame: DataFrame, config: Configuration, ids: Sequence[str]) -> dict[str, list[str]]:
    """The configured texts of some records, their first `LONGEST` characters."""
    if not ids:
        return {}
    columns = [F.coalesce(F.substring(c, 1, LONGEST), F.lit("")).alias(c) for c in config.text_columns()]
    rows = frame.where(F.col("record_id").isin(list(ids))).select("record_id", *columns).collect()
    return {row["record_id"]: [row[column] for column in config.text_columns()] for row in rows}


def example_of(rule: str, record_id: str, before: Sequence[str], after: Sequence[str], mask: Mask) -> Example:
    """The place where the two masked texts first differ; where they do not, the first mask or the beginning.

    `before` and `after` hold one text for each text column, the first that differs is shown.
    """
    for old, new in zip(map(mask, before), map(mask, after), strict=True):
        if old != new:
            pairs = enumerate(zip(old, new, strict=False))
            place = next((i for i, (x, y) in pairs if x != y), min(len(old), len(new)))
            shown = snippet(old, place) if mask.hides_as_much(old, new) else ""
            return Example(rule, record_id, shown, snippet(new, place))
    # Where masks are all that changed, they are what there is to see.
    cleaned = mask(after[0])
    places = [cleaned.find(sign) for sign in mask.signs if sign and sign in cleaned]
    return Example(rule, record_id, "", snippet(cleaned, min(places, default=0)))


def snippet(text: str, place: int = 0) -> str:
    """Some characters around a place, with signs for what one would not see."""
    start = 0 if place < SNIPPET // 2 else place - LEAD
    piece = visible(text[start : start + SNIPPET])
    return ("…" if start else "") + piece + ("…" if start + SNIPPET < len(text) else "")


def visible(text: str) -> str:
    """Line breaks, tabs, runs of spaces and characters without a shape as signs: `↵`, `⇥`, `·`, `[U+200B]`."""
    signs = {"\n": "↵", "\t": "⇥", "\r": "␍"}
    text = text.replace("  ", "··")
    return "".join(signs.get(c) or (c if c.isprintable() else f"[U+{ord(c):04X}]") for c in text)


def cluster_snippets(
    spark: SparkSession,
    config: Configuration,
    clusters: Iterable[Cluster],
    versions: Mapping[str, int],
    mask: Mask,
) -> dict[str, str]:
    """The beginning of the cleaned text of each cluster's survivor, by its record id."""
    fields = read_table(spark, Layout.of(config).fields, versions.get("fields"))
    column = config.text_columns().index(config.deduplicated_column())
    texts = _texts(fields, config, sorted({cluster.record_id for cluster in clusters}))
    return {record_id: snippet(mask(values[column])) for record_id, values in texts.items()}


def quarantine_reasons(
    spark: SparkSession, config: Configuration, versions: Mapping[str, int]
) -> list[Reason]:
    """Each reason with the number of records, and the place of the first one; never what stands in it."""
    place = F.struct("source_path", "source_position", "detail")
    rows = (
        read_table(spark, Layout.of(config).quarantine, versions.get("quarantine"))
        .groupBy("reason")
        .agg(F.count("*").alias("records"), F.min(place).alias("first"))
        .orderBy(F.desc("records"), "reason")
        .collect()
    )
    return [
        Reason(
            row["reason"],
            row["records"],
            row["first"]["detail"],
            f"{row['first']['source_path']}, at {row['first']['source_position'] or 0:,}",
        )
        for row in rows
    ]
