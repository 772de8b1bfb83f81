"""The summary of an imaginary, healthy data set of 10,000 records, for the tests of gates and reports."""

from dataclasses import replace
from typing import Any

from etl.figures.facts import Cluster, Lengths, RuleEffect, ShardFacts, SourceFacts, Summary, TokenFacts

FULL = ShardFacts(1024, [512, 512], 300_000)


def example_summary(**changes: Any) -> Summary:
    """Return a summary that passes every gate of a configuration with the default limits and 512 rows per group."""
    train = [FULL] * 5 + [ShardFacts(1280, [512, 512, 256], 380_000)]  # 6,400 rows
    classes = {
        "train": {"notice": 4800, "text": 1600},
        "validation": {"notice": 600, "text": 200},
        "test": {"notice": 600, "text": 200},
    }
    healthy = Summary(
        records_in=10_000,
        quarantined_by_reason={"invalid_json": 60, "missing_column": 40},
        filtered_by_rule={"length": 100},
        exact_duplicates=500,
        near_duplicates=1300,
        published={"train": 6400, "validation": 800, "test": 800},
        encoded={"train": 6400, "validation": 800, "test": 800},
        unlabelled=0,
        effects={"emails": RuleEffect(120, 150), "length": RuleEffect(100, 100), "unicode": RuleEffect(7, 7)},
        classes_before={"notice": 7400, "text": 2500},
        classes=classes,
        class_groups={"notice": 6000, "text": 2000},
        characters={
            "text": {
                "read": Lengths(9900, 19_800_000, 200_000, {3: 900, 7: 4000, 9: 4000, 12: 1000}),
                "published": Lengths(8000, 14_000_000, 90_000, {3: 500, 7: 3500, 9: 3500, 12: 500}),
            }
        },
        tokens={
            "tokens": {
                "train": TokenFacts(Lengths(6400, 1_000_000, 900, {5: 3000, 7: 3400}), 128, 250_000, 3000),
                "validation": TokenFacts(Lengths(800, 120_000, 800, {5: 400, 7: 400}), 128, 30_000, 350),
                "test": TokenFacts(Lengths(800, 120_000, 700, {5: 400, 7: 400}), 128, 30_000, 350),
            }
        },
        cluster_sizes={1: 7000, 2: 900, 11: 100},
        largest_clusters=[Cluster("a1", 3, "a1"), Cluster("d1", 2, "d1")],
        shards={
            "train": train,
            "validation": [ShardFacts(800, [512, 288], 230_000)],
            "test": [ShardFacts(800, [512, 288], 230_000)],
        },
        rows_per_group=512,
        sources=[SourceFacts(0, "in/*.jsonl", "jsonl", 12, 0, 40_000_000, 10_000, 100)],
    )
    return replace(healthy, **changes)
