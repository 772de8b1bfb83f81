"""Accounting of the content of source files: what became of it, by file, and the share of it in quarantine.

Sizes are bytes of the decompressed content, or rows of a format with random access.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from common.errors import CheckError
from common.progress import log
from etl.sources.files.formats import LABELS, formats
from schemas.config import Configuration

BY_RULE = """
transform(
    array_sort(array_distinct(transform(pieces_skipped, one -> one.rule))),
    name -> struct(
        name AS rule,
        aggregate(filter(pieces_skipped, one -> one.rule = name), 0L, (sum, one) -> sum + one.size) AS size
    )
)
"""
"""What the pieces of a file skipped, summed up by rule."""
SKIPPED = "array<struct<rule: string, size: bigint>>"
ACCOUNTED = "records_size + quarantined_size + aggregate(skipped, 0L, (sum, one) -> sum + one.size)"


def sizes_of_pieces(surplus: Column) -> dict[str, Column]:
    """Return the sums over the pieces of a file; `surplus`: rows that say once too often that nothing can be read."""
    return {
        # Null where one of the pieces does not know its share.
        "content_size": F.when(F.count("content_size") == F.count("*"), F.sum("content_size")),
        "records_size": F.sum("records_size"),
        "quarantined_size": F.sum("quarantined_size"),
        "pieces_skipped": F.flatten(F.collect_list(F.from_json("skipped", SKIPPED))),
        "encoding": F.max("encoding"),
        "lines": F.sum("lines") - surplus,
        "quarantined_lines": F.sum("quarantined_lines") - surplus,
    }


def faults() -> dict[str, Column]:
    """Return aggregates of the files of a source: the first that does not add up, and those that gave nothing."""
    accounted = F.expr(ACCOUNTED)
    columns = ("source_path", "content_size", "records_size", "quarantined_size", "skipped")
    facts = F.struct(*columns, accounted.alias("accounted"))
    return {
        "unbalanced": F.min(F.when(F.col("content_size") != accounted, facts)),
        "silent": F.count_if(gave_nothing()),
        "first_silent": F.min(F.when(gave_nothing(), facts)),
    }


def gave_nothing() -> Column:
    """Return True where nothing comes of a file with content, neither a record nor a row of the quarantine.

    Labels give their rows to the records of other files.
    """
    of_labels = F.exists("skipped", lambda one: one.rule == LABELS)
    return (F.col("records") == 0) & (F.col("content_size") > 0) & ~of_labels


def check_content(row: Mapping[str, Any], pattern: str) -> None:
    """Raise CheckError for a file that does not add up, warn of one that gave nothing; `row` has `faults`."""
    file = row["unbalanced"]
    if file is not None:
        raise CheckError(
            f"the content of {file['source_path']} does not add up: of {file['content_size']:,} there are "
            f"{file['accounted']:,}: records {file['records_size']:,}, quarantined {file['quarantined_size']:,}, "
            f"{by_rule(file['skipped'])}; unless something wrote to the file meanwhile, please report this defect"
        )
    if row["silent"]:
        files = "1 file" if row["silent"] == 1 else f"{row['silent']:,} files"
        log(
            f"  warning: {files} of the source {pattern!r} gave neither a record nor a row of the quarantine: "
            f"{told_silent(row['first_silent'])}"
        )


def told_silent(file: Mapping[str, Any]) -> str:
    """Return the path of a file that gave nothing, and what became of its content."""
    return f"{file['source_path']} ({file['content_size']:,} bytes or rows: {by_rule(file['skipped'])})"


def by_rule(skipped: Sequence[Mapping[str, Any]]) -> str:
    """Return what was skipped, in words."""
    return ", ".join(f"{one['rule']} {one['size']:,}" for one in skipped) or "none of them skipped by a rule"


def shares(config: Configuration) -> dict[str, Column]:
    """Return sums over rows of bronze/sources for the gate of the quarantine: lines and bytes, quarantined_lines and
    quarantined_bytes, which have no erased records.

    A format with random access, whose sizes are rows, counts with the bytes of its files.
    """
    by_row = [index for index, source in enumerate(config.source) if formats()[source.format].random_access]
    rows = F.greatest(F.col("records_size") + F.col("quarantined_size"), F.lit(1))
    bytes_of = F.when(F.col("source_index").isin(by_row), F.col("bytes") / rows).otherwise(F.lit(1.0))
    columns = {
        "lines": F.col("lines"),
        "quarantined_lines": F.col("quarantined_lines"),
        "bytes": (F.col("records_size") + F.col("quarantined_size")) * bytes_of,
        "quarantined_bytes": F.col("quarantined_size") * bytes_of,
    }
    return {name: F.coalesce(F.sum(column).cast("long"), F.lit(0)) for name, column in columns.items()}
