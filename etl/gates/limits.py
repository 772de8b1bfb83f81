"""Quality gates of a publication: the measure, the limit, and advice for a failure.

Each gate names a column of a small table that `measures` derives from the summary. The names of the columns are what
Great Expectations' pages show; `sentence` turns a failing row into the sentence for the user.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import QualityGateError
from common.wording import counted
from etl.figures.facts import Summary
from etl.gates.rejects import explained
from etl.gates.results import LEFT_OUT, GateResult, sentence_of
from schemas.config import Configuration
from schemas.tables import SPLITS

Measured = Mapping[str, Any]
"""Row of one of the tables."""

SPLIT_ROWS = 1000
"""Published rows below which the shares of the splits are not judged."""
CLASS_GROUPS = 500
"""Classes with fewer groups are not judged."""


@dataclass(frozen=True)
class Gate:
    """Expectation: the values of `column` in `table` lie between `minimum` and `maximum`."""

    name: str
    table: str
    column: str
    minimum: float | None
    maximum: float | None
    sentence: Callable[[Measured], str]
    """Describes the observation in a row, as a clause: `the quarantine has 12.00% of the records read`."""
    allowed: str
    remedy: str
    percent: bool = False

    def shown(self, value: float) -> str:
        """Format a value of this gate."""
        if self.percent:
            return percent(value)
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"

    def result(self, rows: Sequence[Measured], failing: Sequence[Measured]) -> GateResult:
        """Return the outcome for these rows of its table, of which some fail; without rows it passes."""
        values = [row[self.column] for row in failing or rows if not math.isnan(row[self.column])]
        worst = (min if self.maximum is None else max)(values) if values else None
        return GateResult(
            name=self.name,
            observed="nothing to judge" if worst is None else self.shown(worst),
            allowed=self.allowed,
            passed=not failing,
            failures=[self.sentence(row) for row in failing],
            remedy=self.remedy,
        )


def percent(share: float) -> str:
    """Return a share as a percentage with two digits."""
    return f"{100 * share:.2f}%"


def measures(summary: Summary, config: Configuration) -> dict[str, list[dict[str, Any]]]:
    """Return the tables to validate, by name: `records` has one row, the others one a split, class or feature.

    A table without anything to judge (no class is large enough) has no rows.
    """
    return {
        "records": [_records(summary, config)],
        "splits": [_split(summary, config, split) for split in SPLITS],
        "classes": _classes(summary),
        "features": [_feature(summary, feature.name) for feature in config.token_features()],
        **{
            f"{measure}_drift": [{measure: d.value} for d in summary.drifts if d.measure == measure]
            for measure in DRIFTS
        },
    }


def gates(config: Configuration, rows_per_group: int) -> list[Gate]:
    """Return all gates, in the order of the report; `rows_per_group` is that of a full row group."""
    quality = config.quality
    return [
        quarantine_gate(config),
        _share_gate("filtered", quality.max_filtered_share, "look at the rules in [clean]"),
        _share_gate("duplicate", quality.max_duplicate_share, "look at [deduplicate] and at the sources"),
        *_label_gates(config),
        Gate(
            "rows published",
            "records",
            "published",
            quality.min_published,
            None,
            lambda row: f"{counted(row['published'], 'row')} left to publish",
            f"at least {quality.min_published:,} (quality.min_published)",
            "see the funnel for where the records went",
        ),
        Gate(
            "every record accounted for",
            "records",
            "unaccounted",
            0,
            0,
            lambda row: f"{row['unaccounted']:,} of {row['records_in']:,} records read have no end",
            "none",
            "run the pipeline again from the first stage, with --again",
        ),
        Gate(
            "every row has a label",
            "records",
            "unlabelled",
            0,
            0,
            lambda row: f"{row['unlabelled']:,} published rows have no label",
            "none",
            "correct columns.label or the sources, and run the pipeline again",
        ),
        Gate(
            "share of each split",
            "splits",
            "share_deviation",
            0,
            quality.max_split_deviation,
            lambda row: (
                f"the split {row['split']} has {percent(row['share'])} of the rows instead of "
                f"{percent(row['expected_share'])}"
            ),
            f"a difference of {percent(quality.max_split_deviation)} (quality.max_split_deviation)",
            "large groups or clusters may not fit: change [split] or columns.group, or raise the limit",
            percent=True,
        ),
        Gate(
            "share of each class",
            "classes",
            "class_deviation",
            0,
            quality.max_class_deviation,
            lambda row: (
                f"the class {row['label']!r} is {percent(row['share'])} of the split {row['split']} but "
                f"{percent(row['whole_share'])} of all rows"
            ),
            f"a difference of {percent(quality.max_class_deviation)} (quality.max_class_deviation)",
            "change columns.group or split.seed, or raise the limit",
            percent=True,
        ),
        Gate(
            "training shards of equal size",
            "splits",
            "shard_spread",
            0,
            rows_per_group,
            lambda row: f"the row counts of the {row['split']} shards differ by {row['shard_spread']:,}",
            f"at most one row group of {rows_per_group:,} rows",
            "run the stage publish again, and report this",
        ),
        Gate(
            "row groups exactly full",
            "splits",
            "inexact_row_groups",
            0,
            0,
            lambda row: (
                f"{row['inexact_row_groups']:,} row groups of the split {row['split']}, its last left aside, "
                f"do not have {rows_per_group:,} rows"
            ),
            "none",
            "run the stage publish again, and report this",
        ),
        Gate(
            "every row in one shard",
            "splits",
            "rows_astray",
            0,
            0,
            lambda row: (
                f"the split {row['split']} has {row['rows']:,} published records, {row['encoded_rows']:,} "
                f"encoded and {row['shard_rows']:,} in shards"
            ),
            "none in encoded rows or shards alone",
            "run the stages encode and publish with --again",
        ),
        Gate(
            "tokens cut off",
            "features",
            "cut_share",
            0,
            quality.max_cut_share,
            lambda row: (
                f"truncation cut off {percent(row['cut_share'])} of the tokens of the feature "
                f"{row['feature']!r} in the training split"
            ),
            f"at most {percent(quality.max_cut_share)} (quality.max_cut_share)"
            if quality.max_cut_share < 1
            else "no limit is set (quality.max_cut_share)",
            "raise the feature's length, or the limit",
            percent=True,
        ),
        *_drift_gates(config),
    ]


DRIFTS = {
    "classes": ("drift of the classes", "max_class_drift", "the class mix"),
    "lengths": ("drift of the lengths", "max_length_drift", "the mix of lengths"),
    "vocabulary": ("drift of the vocabulary", "max_vocabulary_drift", "the mix of words"),
    "columns": ("drift of the columns", "max_column_drift", "a typed column"),
    "outcomes": ("drift of the drop rates", "max_outcome_drift", "the outcomes of the records"),
}
"""By measure the gate's name, its key, and its subject."""


def _drift_gates(config: Configuration) -> list[Gate]:
    """Return the drift gates with a limit."""
    limits = config.quality.drift_limits()
    return [
        Gate(
            name,
            f"{measure}_drift",
            measure,
            0,
            limits[measure],
            lambda row, measure=measure, about=about: (  # type: ignore[misc]
                f"{about} is {row[measure]:.3f} from that of the version before"
            ),
            f"at most {limits[measure]:g} (quality.{key})",
            f"compare the two versions in the report; where the change is meant, raise quality.{key}",
        )
        for measure, (name, key, about) in DRIFTS.items()
        if limits[measure] is not None
    ]


def check_quarantine(counts: Mapping[str, int], config: Configuration) -> None:
    """Check the first gate alone, right after `ingest` and before hours of work. Raises QualityGateError.

    `counts` are those that `ingest` returns.
    """
    gate = quarantine_gate(config)
    # Records erased on request say nothing about the quality of the data.
    row = quarantine_row(counts["records_in"], counts["quarantined"] - counts.get("forgotten", 0), counts)
    if gate.maximum is not None and row[gate.column] > gate.maximum:
        failed = explained(gate.result([row], [row]), config)
        raise QualityGateError(f"a quality gate failed after ingest: {sentence_of(failed)}")


def quarantine_gate(config: Configuration) -> Gate:
    """Return the gate that is checked a first time right after `ingest`."""
    maximum = config.quality.max_quarantine_share
    return _share_gate("quarantine", maximum, "mend the records or the configuration")


def _label_gates(config: Configuration) -> list[Gate]:
    """Return the gate on contradictory labels, where there are labels."""
    if config.columns.label is None:
        return []
    remedy = "look at them in the report, and correct labels or set deduplicate.label_conflicts"
    return [_share_gate("label_conflict", config.quality.max_label_conflict_share, remedy)]


def _share_gate(what: str, maximum: float, remedy: str) -> Gate:
    key = f"quality.max_{what}_share"
    return Gate(
        f"share {LEFT_OUT[what]}",
        "records",
        f"{what}_share",
        0,
        maximum,
        lambda row: (
            f"{percent(row[f'{what}_share'])} of the {row.get(f'{what}_unit', 'records')} read "
            f"({row.get(f'{what}_part', row[f'{what}_records']):,} of "
            f"{row.get(f'{what}_whole', row['records_in']):,}) are {LEFT_OUT[what]}"
        ),
        f"at most {percent(maximum)} ({key})",
        f"{remedy}, or raise {key}",
        percent=True,
    )


def quarantine_row(records_in: int, quarantined: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the part of the table `records` that is known after `ingest`; `sizes` has lines and bytes, if known.

    The share is the largest of those of the records, the lines and the bytes, since one record may have swallowed
    thousands of lines.
    """
    found = {
        "records": (quarantined, records_in),
        **{unit: (sizes.get(f"quarantined_{unit}", 0), sizes.get(unit, 0)) for unit in ("lines", "bytes")},
    }
    unit = max(found, key=lambda one: _share(*found[one]))  # the first of equals
    part, whole = found[unit]
    return {
        "records_in": records_in,
        "quarantine_records": quarantined,
        "quarantine_share": _share(part, whole),
        "quarantine_unit": unit,
        "quarantine_part": part,
        "quarantine_whole": whole,
    }


def _records(summary: Summary, config: Configuration) -> dict[str, Any]:
    duplicates = summary.exact_duplicates + summary.near_duplicates
    return {
        **quarantine_row(summary.records_in, summary.quarantined - summary.forgotten, summary.sizes()),
        "filtered_records": summary.filtered,
        "filtered_share": _share(summary.filtered, summary.records_in),
        "duplicate_records": duplicates,
        "duplicate_share": _share(duplicates, summary.records_in),
        "label_conflict_records": summary.label_conflicts,
        "label_conflict_share": _share(summary.label_conflicts, summary.records_in),
        "published": summary.published_rows,
        "unaccounted": abs(summary.records_in - summary.accounted),
        "unlabelled": summary.unlabelled,
    }


def _split(summary: Summary, config: Configuration, split: str) -> dict[str, Any]:
    rows, shards = summary.published.get(split, 0), summary.shards.get(split, [])
    share, expected = _share(rows, summary.published_rows), float(getattr(config.split, split))
    full, spread, inexact = summary.rows_per_group, 0, 0
    # Each silo is cut into shards by itself.
    for silo in {shard.silo for shard in shards}:
        mine = [shard for shard in shards if shard.silo == silo]
        groups = [group for shard in mine for group in shard.row_groups]
        inexact += sum(group != full for group in groups[:-1]) + sum(not 0 < g <= full for g in groups[-1:])
        if split == "train":
            spread = max(spread, max(shard.rows for shard in mine) - min(shard.rows for shard in mine))
    cut = sum(sum(shard.row_groups) for shard in shards)
    encoded, written = summary.encoded.get(split, 0), sum(shard.records for shard in shards)
    astray = abs(rows - encoded) + abs(rows - written) + abs(sum(shard.rows for shard in shards) - cut)
    return {
        "split": split,
        "rows": rows,
        "share": share,
        "expected_share": expected,
        "share_deviation": abs(share - expected) if summary.published_rows >= SPLIT_ROWS else math.nan,
        "shards": len(shards),
        "shard_spread": spread,
        "inexact_row_groups": inexact,
        "encoded_rows": encoded,
        "shard_rows": written,
        "rows_astray": astray,
    }


def _classes(summary: Summary) -> list[dict[str, Any]]:
    rows = []
    for label, groups in sorted(summary.class_groups.items()):
        if groups < CLASS_GROUPS:
            continue
        whole = _share(
            sum(by_class.get(label, 0) for by_class in summary.classes.values()), summary.published_rows
        )
        for split in SPLITS:
            if summary.published.get(split, 0) == 0:
                continue
            share = _share(summary.classes.get(split, {}).get(label, 0), summary.published[split])
            rows.append(
                {"label": label, "split": split, "share": share, "whole_share": whole}
                | {"class_deviation": abs(share - whole)}
            )
    return rows


def _feature(summary: Summary, name: str) -> dict[str, Any]:
    facts = summary.tokens.get(name, {}).get("train")
    total, cut = (facts.lengths.total, facts.cut_tokens) if facts is not None else (0, 0)
    return {"feature": name, "tokens": total, "cut_tokens": cut, "cut_share": _share(cut, total)}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
