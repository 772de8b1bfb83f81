"""Section of the data-quality report on images: examples of each class, copies side by side, and what was left out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from common.images import data_uri, shown
from common.pages.page import Block, Picture, Pictures, ReportSection, Table, Text, number
from common.wording import counted
from etl.figures.facts import Cluster, Summary
from etl.lake.tables import read_records, read_table
from etl.reporting.records import row
from schemas.config import Configuration
from schemas.tables import Layout

TITLE = "Images"
EXAMPLES, CLASSES = 8, 24
"""Pictures of a class, and classes that are shown, the largest."""
CLUSTERS, MEMBERS = 8, 8
ORDERS = 3 * MEMBERS
"""Orders of a cluster's records, the first of each of which is shown: several may have the same."""
EFFECTS = {
    "exif": "EXIF data: left out",
    "gps": "Position (GPS): left out",
    "comment": "Comment or description: left out",
    "xmp": "XMP data: left out",
    "iptc": "IPTC data: left out",
    "colour_profile": "Colour profile: left out",
    "orientation": "Turned as its EXIF orientation says",
    "alpha": "Transparent: put on white",
    "palette": "Palette: resolved",
    "cmyk": "CMYK: turned into RGB",
    "sixteen_bits": "16 bits a channel: scaled to 8",
    "animation": "Animated: its first frame taken",
}


@dataclass(frozen=True)
class Sheets:
    """Pictures of the report: PNG and caption, by class and by cluster."""

    examples: dict[str, list[bytes]] = field(default_factory=dict)
    clusters: list[tuple[Cluster, list[tuple[bytes, str]]]] = field(default_factory=list)


def sheets_of(
    spark: SparkSession, config: Configuration, summary: Summary, versions: Mapping[str, int]
) -> Sheets | None:
    """Return the pictures of a data set with images, chosen by hash; None of one without."""
    if not config.image_features():
        return None
    layout = Layout.of(config)
    column = config.image_columns()[0]
    fields = read_table(spark, layout.fields, versions.get("fields"))
    ledger = read_table(spark, layout.ledger, versions.get("ledger"))
    chosen = _examples(fields, ledger, config, summary)
    clusters = summary.largest_clusters[:CLUSTERS] if config.compared_as() == "images" else []
    members = _members(ledger, clusters)
    ids = {one for ids in chosen.values() for one in ids} | {
        one for found in members.values() for one, _ in found
    }
    pictures = _pictures(spark, layout.fields, fields, column, ids)
    return Sheets(
        {name: [pictures[one] for one in ids if one in pictures] for name, ids in chosen.items()},
        [
            (
                cluster,
                [(pictures[one], status) for one, status in members[cluster.cluster_id] if one in pictures],
            )
            for cluster in clusters
        ],
    )


def _examples(
    fields: DataFrame, ledger: DataFrame, config: Configuration, summary: Summary
) -> dict[str, list[str]]:
    """Return ids of published records by class, the largest classes first; of one group without classes."""
    label = F.lit("") if config.columns.label is None else F.col(config.columns.label)
    published = ledger.where("split IS NOT NULL").select("record_id")
    named = fields.select("record_id", label.alias("label")).join(published, "record_id", "left_semi")
    # One aggregate an example: so nothing is sorted, and nothing collected but these.
    firsts = [F.min_by("record_id", F.xxhash64("record_id", F.lit(place))) for place in range(EXAMPLES)]
    rows = named.groupBy("label").agg(*(first.alias(f"id_{i}") for i, first in enumerate(firsts))).collect()
    totals = {
        name: sum(by.get(name, 0) for by in summary.classes.values()) for name in (r["label"] for r in rows)
    }
    rows.sort(key=lambda one: (-totals[one["label"]], one["label"]))
    return {one["label"]: list(dict.fromkeys(list(one)[1:])) for one in rows[:CLASSES]}


def _members(ledger: DataFrame, clusters: Sequence[Cluster]) -> dict[str, list[tuple[str, str]]]:
    """Return ids and statuses of records by cluster, those that were kept first."""
    found: dict[str, list[tuple[str, str]]] = {cluster.cluster_id: [] for cluster in clusters}
    if not clusters:
        return found
    wanted = ledger.where(F.col("cluster_id").isin(list(found)))
    one = F.struct("record_id", "status")
    # A cluster may have any number of records: one aggregate each, and nothing is sorted.
    orders = [F.struct(F.col("status") != "kept", "record_id")]
    orders += [F.struct(F.xxhash64("record_id", F.lit(place)), "record_id") for place in range(1, ORDERS)]
    rows = wanted.groupBy("cluster_id").agg(
        *(F.min_by(one, by).alias(f"at_{i}") for i, by in enumerate(orders))
    )
    for row_ in rows.collect():
        members = [tuple(member) for member in list(row_)[1:]]
        found[row_["cluster_id"]] = list(dict.fromkeys(members))[:MEMBERS]
    return found


def _pictures(
    spark: SparkSession, uri: str, fields: DataFrame, column: str, ids: Collection[str]
) -> dict[str, bytes]:
    """Return the picture of each record, at the size of a report."""
    rows = read_records(spark, uri, fields, ids, [column])
    return {one["record_id"]: shown(bytes(one[column])) for one in rows if one[column] is not None}


def images(summary: Summary, config: Configuration, sheets: Sheets) -> ReportSection:
    """Return the section: sheets of pictures, and how many images had metadata or were changed."""
    blocks: list[Block] = []
    if sheets.examples:
        rows = [
            (name, [Picture(data_uri(png)) for png in pictures]) for name, pictures in sheets.examples.items()
        ]
        blocks.append(Pictures(rows, "Published images, chosen by hash, as the tables hold them."))
    alike = [
        (
            counted(cluster.records, "record"),
            [Picture(data_uri(png), status.replace("_", " ")) for png, status in members],
        )
        for cluster, members in sheets.clusters
    ]
    if alike:
        blocks.append(
            Pictures(alike, "Copies and near-copies side by side: the largest clusters, the survivor first.")
        )
    columns = set(config.image_columns())
    effects = [
        row(EFFECTS.get(name.rpartition(".")[2], name), number(effect.records))
        for name, effect in sorted(summary.effects.items(), key=lambda item: -item[1].records)
        if name.rpartition(".")[0] in columns
    ]
    if effects:
        caption = "Metadata of images, which may tell who took them and where, reaches no table."
        blocks.append(Table(["What the files had", "Images"], effects, caption))
    else:
        blocks.append(Text("No image had metadata, and none had to be turned or converted.", "quiet"))
    return ReportSection(TITLE, blocks)
