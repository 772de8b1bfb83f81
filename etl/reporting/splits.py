"""Sections of the data-quality report on the published data, and its origin, from figures alone."""

from collections.abc import Mapping, Sequence

from common.pages import charts
from common.pages.page import (
    Block,
    Cell,
    Chart,
    Code,
    ReportSection,
    Table,
    Text,
    Value,
    figure,
    number,
    share,
    size,
)
from common.wording import counted
from etl.duplicates.contents import content_of
from etl.figures.facts import Lengths, Summary
from etl.reporting.records import row
from schemas.config import ROWS, Configuration
from schemas.manifest import Manifest
from schemas.tables import SPLITS

MOST_CLASSES = 40
MOST_SHARDS = 64


def classes(summary: Summary) -> ReportSection:
    """Return the section on the records of each class, read and in each split."""
    published = {
        label: sum(by_class.get(label, 0) for by_class in summary.classes.values())
        for label in summary.classes_before
    }
    total_before, total_after = sum(summary.classes_before.values()), sum(published.values())
    most = max([*summary.classes_before.values(), 1])
    rows: list[list[Value]] = []
    for label, before in list(summary.classes_before.items())[:MOST_CLASSES]:
        after = published[label]
        by_split = [
            share(summary.classes[s].get(label, 0), summary.published[s])
            if summary.published[s]
            else figure(None)
            for s in SPLITS
        ]
        rows.append(
            row(
                label,
                number(before, bar=before / most),
                share(before, total_before),
                number(after, bar=after / most),
                share(after, total_after),
                *by_split,
            )
        )
    blocks: list[Block] = [
        Table(
            ["Class", "Read", "Share", "Published", "Share", "In train", "In validation", "In test"],
            rows,
            "Shares of a split are of its own rows.",
        )
    ]
    rest = len(summary.classes_before) - MOST_CLASSES
    if rest > 0:
        blocks.append(Text(f"Not shown: {counted(rest, 'smaller class', 'smaller classes')}.", "quiet"))
    return ReportSection("Classes", blocks)


def lengths(summary: Summary) -> ReportSection:
    """Return the section on characters before and after, and tokens before truncation."""
    blocks: list[Block] = []
    rows: list[list[Value]] = []
    for column, stages in summary.characters.items():
        blocks.append(
            Chart(
                _histogram(f"Characters of {column}", stages, "characters"),
                f"Length of {column} as it was read, and cleaned and published.",
            )
        )
        rows += [row(f"{column}, {stage}", *_length_cells(found), "", "") for stage, found in stages.items()]
    for feature, by_split in summary.tokens.items():
        train = by_split.get("train")
        if train is None:
            continue
        blocks.append(
            Chart(
                _histogram(
                    f"Tokens of the feature {feature}", {"train": train.lengths}, "tokens", train.limit
                ),
                f"Tokens of a row of the training split before truncation; dashed: the limit of {train.limit:,}."
                if train.limit is not None
                else "Tokens of a record of the training split; records are packed, and none is truncated.",
            )
        )
        for split, facts in by_split.items():
            cut = share(facts.cut_rows, facts.lengths.rows), share(facts.cut_tokens, facts.lengths.total)
            rows.append(row(f"{feature} (tokens), {split}", *_length_cells(facts.lengths), *cut))
    header = ["", "Rows", "Mean", "Longest", "Rows cut", "Tokens cut off"]
    blocks.append(Table(header, rows))
    kept = summary.kept_tokens().items()
    blocks += [Text(f"In the training split of `{feature}`, {one.told}.", "quiet") for feature, one in kept]
    return ReportSection("Lengths", blocks)


def _length_cells(found: Lengths) -> list[Value]:
    return [number(found.rows), figure(found.mean, 1), number(found.maximum)]


def _histogram(title: str, stages: Mapping[str, Lengths], unit: str, limit: int | None = None) -> str:
    used = [k for found in stages.values() for k in found.bins]
    bins = list(range(min(used), max(used) + 1)) if used else []
    series = {stage: [float(found.bins.get(k, 0)) for k in bins] for stage, found in stages.items()}
    line = None
    if limit is not None and bins and bins[0] <= limit.bit_length() - 1 <= bins[-1]:
        # Bin k begins at 2^k; bars are centred, so it begins half a place before its number.
        k = limit.bit_length() - 1
        line = k - bins[0] - 0.5 + (limit - 2**k) / 2**k
    return charts.bars(title, series, [bin_label(k) for k in bins], unit, "records", line)


def bin_label(k: int) -> str:
    """Return the lower bound of bin k: `0`, `1`, `2`, `4`, …, `1k`, `2k`, …, `1M`."""
    if k < 10:
        return str(2**k) if k >= 0 else "0"
    return f"{2 ** (k - 10)}k" if k < 20 else f"{2 ** (k - 20)}M"


def balance(summary: Summary, config: Configuration) -> ReportSection:
    """Return the section on rows and shards of each split, and every shard of the training split."""
    total = summary.published_rows
    rows: list[list[Value]] = []
    for split in SPLITS:
        shards = summary.shards.get(split, [])
        sizes = [shard.rows for shard in shards]
        spread = "–".join(f"{each:,}" for each in sorted({min(sizes), max(sizes)})) if sizes else "–"
        rows.append(
            row(
                split,
                number(summary.published.get(split, 0)),
                share(summary.published.get(split, 0), total),
                share(getattr(config.split, split), 1),
                number(len(shards)),
                Cell(spread, number=True),
                number(sum(len(shard.row_groups) for shard in shards)),
                Cell(size(sum(shard.bytes for shard in shards)), number=True),
            )
        )
    header = ["Split", "Rows", "Share", "Configured", "Shards", "Rows a shard", "Row groups", "Size"]
    blocks: list[Block] = [Table(header, rows)]
    train = summary.shards.get("train", [])
    largest = max([1, *(shard.rows for shard in train)])
    of_train = [
        row(
            number(place),
            number(shard.rows, bar=shard.rows / largest),
            number(len(shard.row_groups)),
            number(shard.row_groups[-1] if shard.row_groups else 0),
            Cell(size(shard.bytes), number=True),
        )
        for place, shard in enumerate(train[:MOST_SHARDS])
    ]
    caption = f"Shards of the training split, {summary.rows_per_group:,} rows a row group."
    blocks.append(Table(["Shard", "Rows", "Row groups", "Rows of the last", "Size"], of_train, caption))
    if len(train) > MOST_SHARDS:
        blocks.append(Text(f"Not shown: {counted(len(train) - MOST_SHARDS, 'more shard')}.", "quiet"))
    return ReportSection("Splits and shards", blocks)


def leakage(sample: Sequence[tuple[str, float]], config: Configuration) -> ReportSection:
    """Return the section on the highest similarity of sampled test rows to any row of the training split."""
    content = content_of(config)
    limit = content.limit
    if config.compared_as() == ROWS:
        told = "Records that are equal, or equal within tolerance, form a cluster, which lies in one split."
        return ReportSection("Leakage", [Text(f"Whole rows are compared. {told}")])
    if not sample:
        return ReportSection("Leakage", [Text("There are no test rows to compare with the training split.")])
    edges = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    counts = [float(sum(e <= v < e + 0.1 or (e == 0.9 and v >= 1) for _, v in sample)) for e in edges]
    labels = [f"{e:.1f}–{e + 0.1:.1f}" for e in edges]
    leaked = sorted(((i, v) for i, v in sample if v >= limit), key=lambda item: -item[1])
    highest = max(value for _, value in sample)
    verdict = (
        Text(
            f"{len(leaked):,} of {len(sample):,} sampled test rows have a near-copy in the training split.",
            "bad",
        )
        if leaked
        else Text(
            f"None of {len(sample):,} sampled test rows has a near-copy (similarity of {limit:.3g} or more) in the "
            f"training split; the highest similarity is {highest:.3f}.",
            "good",
        )
    )
    blocks: list[Block] = [
        verdict,
        Chart(
            charts.bars(
                "Highest similarity to a training row",
                {"test rows": counts},
                labels,
                content.measure,
                "test rows",
            ),
            f"{content.explained}, for sampled test rows.",
        ),
    ]
    if leaked:
        found = [row(Cell(i, "code"), figure(v)) for i, v in leaked[:20]]
        blocks.append(Table(["Test row", "Similarity"], found))
    return ReportSection("Leakage", blocks)


def sources(summary: Summary) -> ReportSection:
    """Return the section on the sources."""
    rows = [
        row(
            Cell(s.path, "code"),
            s.format,
            number(s.files),
            number(s.unreadable),
            Cell(size(s.bytes), number=True),
            number(s.records),
            number(s.quarantined),
        )
        for s in summary.sources
    ]
    header = ["Source", "Format", "Files", "Unreadable", "Size", "Records", "Quarantined"]
    silent = [
        Text(
            f"{s.silent:,} of the files of {s.path} gave neither a record nor a row of the quarantine, the first of "
            f"them {s.first_silent}.",
            "bad",
        )
        for s in summary.sources
        if s.silent
    ]
    encodings = [
        Text(f"Encodings of the files of {s.path}: {', '.join(s.encodings)}.")
        for s in summary.sources
        if set(s.encodings) - {"utf-8"}
    ]
    return ReportSection("Sources", [Table(header, rows), *encodings, *silent])


def provenance(manifest: Manifest | None, config: Configuration) -> ReportSection:
    """Return the section on the version's identity and origin."""
    if manifest is None:
        return ReportSection("Provenance", [Text("Nothing was published.")])
    made, content = manifest.provenance, manifest.content
    facts = {
        "Manifest root": manifest.manifest_root,
        "Delta version": f"{manifest.delta_version} of gold/shards",
        "Source files": f"{content.sources.files:,}, {size(content.sources.bytes)}, root {content.sources.root}",
        "Bronze versions": _versions(made.bronze_versions),
        "Silver versions": _versions(made.silver_versions),
        **{f"Artifact: {a.purpose}": f"{a.sha256} ({size(a.bytes)})" for a in content.artifacts},
        "Configuration": made.configuration_sha256,
        "Code": made.code_version,
        "Spark": made.spark_version,
        "Published": f"{made.created} on {made.host} by {made.user}, after {made.seconds:,.0f} s",
    }
    rows = [row(name, Cell(value, "code")) for name, value in facts.items()]
    return ReportSection("Provenance", [Table(["", ""], rows), Text("Made with:"), Code(made.command)])


def _versions(versions: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
