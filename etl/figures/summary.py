"""Summary of the whole data set in a few hundred numbers, aggregated by Spark for the gates and the report.

`summarise` reads narrow columns of the bronze and silver tables: `clean` has recorded the length of each text, and
the words of a sample. So it costs the same for the checks and for the report, and little more where texts are longer.
The records read are counted from `bronze/sources`, everything else from where the records ended up: their agreement
is a check, not an arrangement.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from pyspark.sql import DataFrame, SparkSession

from common.errors import UsageError
from etl.figures import aggregates
from etl.figures.aggregates import NO_TEXT, UNLABELLED
from etl.figures.columns import column_figures
from etl.figures.facts import ShardFacts, Summary
from etl.figures.vocabulary import word_counts
from etl.lake.outcomes import final_ledger, rows_to_publish
from etl.lake.tables import read_table
from etl.publication import balance
from etl.publication.shards import row_bytes
from etl.spark.persist import persisted
from etl.spark.sampled_words import share_of
from schemas.config import Configuration
from schemas.tables import SPLITS, Layout

__all__ = ["ShardFacts", "Summary", "summarise"]


def summarise(
    spark: SparkSession,
    config: Configuration,
    shards: Mapping[str, Sequence[ShardFacts]],
    versions: Mapping[str, int] | None = None,
) -> Summary:
    """Return the summary of `shards` and the newest (or given) `versions` of the bronze and silver tables by name.

    Raises UsageError when a table is missing, or was written by a version that did not record what is read here.
    """
    layout = Layout.of(config)

    def table(name: str) -> DataFrame:
        return read_table(spark, getattr(layout, name), (versions or {}).get(name))

    first = next(iter(config.text_columns()), NO_TEXT)
    files, fields = table("sources"), table("fields")
    for uri, frame, column, stage in (
        (layout.sources, files, "content_size", "ingest"),
        (layout.fields, fields, "text_characters", "clean"),
    ):
        if column not in frame.columns:
            raise UsageError(
                f"{uri} was written by an earlier version of ringlake: run the stage {stage} again, "
                "and those after it"
            )
    sources = aggregates.source_facts(config, files)
    read = aggregates.as_read(config, fields).transform(partial(aggregates.count_by_length, config)).collect()
    encoded = rows_to_publish(table("encoded"))
    ledger = final_ledger(table("ledger"), table("encoded"))
    with persisted(aggregates.with_outcomes(config, fields, ledger)) as outcomes:
        ended = outcomes.transform(
            lambda frame: aggregates.count_by_length(config, frame, "outcome", "reason")
        ).collect()
        groups = aggregates.class_groups(config, outcomes)
        cluster_sizes, largest, conflicts = aggregates.clusters_of(outcomes)
    ends = [
        row for row in ended if row["column"] == first
    ]  # each record once, whatever the number of columns
    encoded_rows, tokens = aggregates.token_facts(config, encoded)
    effects = aggregates.rule_effects(fields)
    labelled = config.columns.label is not None
    published = sum(aggregates.total_of(aggregates.with_outcome(ends, split)) for split in SPLITS)
    distributions, correlation = column_figures(config, fields, ledger, published)
    characters = {
        column: {
            "read": aggregates.lengths_of(row for row in read if row["column"] == column),
            "published": aggregates.lengths_of(
                r for r in ended if r["column"] == column and r["outcome"] in SPLITS
            ),
        }
        for column in config.text_columns()
    }
    records = aggregates.total_of(row for row in read if row["column"] == first)
    # The share that `clean` recorded words of, for which it used the same number of bytes.
    share = min(
        share_of(sum(source.bytes for source in sources), records),
        share_of(
            sum(lengths["published"].total for lengths in characters.values()),
            characters[first]["published"].rows if characters else 0,
        ),
    )
    classes = {
        s: aggregates.sums_by(aggregates.with_outcome(ends, s), "label") if labelled else {} for s in SPLITS
    }
    return Summary(
        records_in=sum(source.records for source in sources),
        quarantined_by_reason=aggregates.sums_by(
            table("quarantine").groupBy("reason").count().collect(), "reason"
        ),
        filtered_by_rule=aggregates.sums_by(aggregates.with_outcome(ends, "filtered"), "reason"),
        exact_duplicates=aggregates.total_of(aggregates.with_outcome(ends, "exact_duplicate")),
        near_duplicates=aggregates.total_of(aggregates.with_outcome(ends, "near_duplicate")),
        published={split: aggregates.total_of(aggregates.with_outcome(ends, split)) for split in SPLITS},
        encoded=encoded_rows,
        unlabelled=sum(by_class.get(UNLABELLED, 0) for by_class in classes.values()),
        effects=effects,
        typed=aggregates.typed_facts(config, encoded, effects),
        classes_before=aggregates.sums_by([row for row in read if row["column"] == first], "label")
        if labelled
        else {},
        classes=classes,
        class_groups=groups,
        characters=characters,
        tokens=tokens,
        cluster_sizes=cluster_sizes,
        largest_clusters=largest,
        label_conflicts=conflicts.records,
        conflicting_clusters=conflicts.clusters,
        largest_conflicts=conflicts.largest,
        shards={split: list(facts) for split, facts in shards.items()},
        rows_per_group=balance.row_group_size(
            config.publish,
            {split: sum(shard.rows for shard in facts) for split, facts in shards.items()},
            row_bytes(config),
        ),
        sources=sources,
        distributions=distributions,
        correlation=correlation,
        words=word_counts(fields, ledger, share),
    )
