"""Sections of the data-quality report on the outcomes of the records, from figures alone."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from unicodedata import combining, normalize

from common.pages.page import (
    Block,
    Cell,
    Link,
    ReportSection,
    Table,
    Text,
    Tile,
    Value,
    as_cell,
    number,
    share,
)
from common.wording import counted
from etl.figures.facts import Cluster, Summary
from etl.gates.results import GateResults
from etl.reporting.examples import Example, Reason
from etl.rules.personal_data import rule_of
from schemas.cleaning import PersonalDataRule
from schemas.config import Configuration
from schemas.tables import SPLITS

CLOSE = 3
"""Equal characters below which two changed places are marked as one."""
INDENTATION = "white_space.indentation"
"""Effect of the rule white_space: lines whose indentation it removed."""


def row(*values: Value) -> list[Value]:
    """Return a row of a table."""
    return list(values)


def tiles(summary: Summary, gates: GateResults) -> list[Tile]:
    """Return the figures at the top."""
    read, files = summary.records_in, sum(source.files for source in summary.sources)
    passed = sum(gate.passed for gate in gates.gates)
    duplicates = summary.exact_duplicates + summary.near_duplicates

    def of_read(count: int) -> str:
        return f"{100 * count / read:.1f}% of what was read" if read else ""

    return [
        Tile("Records read", f"{read:,}", f"from {counted(files, 'file')}"),
        Tile("Rows published", f"{summary.published_rows:,}", of_read(summary.published_rows)),
        Tile("Duplicates", f"{duplicates:,}", of_read(duplicates)),
        Tile("Filtered out", f"{summary.filtered:,}", of_read(summary.filtered)),
        Tile("Quarantined", f"{summary.quarantined:,}", of_read(summary.quarantined)),
        Tile(
            "Quality gates",
            f"{passed} of {len(gates.gates)}",
            "passed" if gates.passed else "passed: nothing was published",
            "good" if gates.passed else "bad",
        ),
    ]


def funnel(summary: Summary) -> ReportSection:
    """Return the funnel from the records read to the rows of each split."""
    left = read = summary.records_in
    rows: list[list[Value]] = [["Records read", "", number(read), share(read, read, bar=True)]]
    steps = {
        "Quarantined: did not meet the contract of a record": summary.quarantined,
        "Filtered out by a cleaning rule": summary.filtered,
        "Exact duplicates": summary.exact_duplicates,
        "Near-duplicates": summary.near_duplicates,
    }
    for name, count in steps.items():
        left -= count
        rows.append([name, Cell(f"− {count:,}", number=True), number(left), share(left, read, bar=True)])
    published = summary.published_rows
    rows.append(["Published", "", number(published), share(published, read, bar=True)])
    for split in SPLITS:
        count = summary.published.get(split, 0)
        # Of the published rows, as in the section on the splits.
        part = replace(share(count, published), note="of published") if published else Cell("–", number=True)
        rows.append([Cell(f"of these {split}", tone="quiet"), "", number(count), part])
    adds_up = summary.records_in == summary.accounted
    verdict = (
        Text("Every record that was read is in exactly one of these rows.")
        if adds_up
        else Text(f"{counted(abs(read - summary.accounted), 'record')} not accounted for.", "bad")
    )
    return ReportSection("Funnel", [Table(["", "Removed", "Left", "Of what was read"], rows), verdict])


def gate_table(gates: GateResults, data_docs: str) -> ReportSection:
    """Return the table of all gates, with the observed and the allowed value."""
    rows: list[list[Value]] = []
    for gate in gates.gates:
        verdict = Cell("passed", "good") if gate.passed else Cell("failed", "bad")
        said = f"{'; '.join(gate.failures)}: {gate.remedy}" if gate.failures else ""
        rows.append(
            [gate.name, Cell(gate.observed, number=True), gate.allowed, verdict, Cell(said, prose=True)]
        )
    if gates.passed:
        rows = [row[:-1] for row in rows]
    header = ["Gate", "Observed", "Allowed", "Result", "What to do"]
    return ReportSection(
        "Quality gates",
        [
            Table(header[: 4 if gates.passed else 5], rows),
            Link("Great Expectations' Data Docs of these checks", data_docs),
        ],
    )


def quarantine(summary: Summary, reasons: Sequence[Reason]) -> ReportSection:
    """Return the section on the reasons of the quarantine."""
    if not reasons:
        return ReportSection("Quarantine", [Text("Every record met the contract.")])
    rows: list[list[Value]] = [
        [
            Cell(r.reason, "name"),
            number(r.records),
            share(r.records, summary.records_in),
            r.detail,
            Cell(r.place, "code"),
        ]
        for r in reasons
    ]
    header = ["Reason", "Records", "Of what was read", "For example", "At"]
    note = Text(
        "The raw bytes of each of them are in `bronze/quarantine`; `ringlake-etl quarantine` shows them, masked.",
        "quiet",
    )
    return ReportSection("Quarantine", [Table(header, rows), note])


def rules(summary: Summary, config: Configuration, examples: Sequence[Example]) -> ReportSection:
    """Return the section on the effects of each cleaning rule, with masked examples."""
    rows: list[list[Value]] = []
    for rule in config.clean.active():
        by_kind = [name for name in sorted(summary.effects) if name != rule and rule_of(name) == rule]
        settings = getattr(config.clean, rule, None)
        drops = isinstance(settings, PersonalDataRule) and settings.action == "drop"
        personal = isinstance(settings, PersonalDataRule)
        for name in [*by_kind, *([rule] if drops or not (personal and by_kind) else [])]:
            effect = summary.effects.get(name)
            filtered = summary.filtered_by_rule.get(name, 0)
            touched, changes = (effect.records, effect.changes) if effect is not None else (0, 0)
            # For a filter, `changes` counts records once more, or its matches.
            no_edits = drops or (filtered and changes == touched)
            edits = Cell("–", number=True) if no_edits else number(changes)
            rows.append([Cell(name, "name"), number(touched), edits, number(filtered)])
    # Left out by no rule, but for ties to other records (split_conflict); typed columns stand elsewhere.
    elsewhere = {*config.clean.active(), *(feature.name for feature in config.typed_features())}
    for reason, filtered in summary.filtered_by_rule.items():
        if rule_of(reason) not in elsewhere:
            rows.append([Cell(reason, "name"), number(filtered), Cell("–", number=True), number(filtered)])
    if not rows:
        return ReportSection("Cleaning rules", [Text("No rule is on.")])
    idle = [name for name, touched, _, filtered in map(_texts, rows) if touched == filtered == "0"]
    rows = [one for one in rows if _texts(one)[0] not in idle]
    blocks: list[Block] = []
    if rows:
        blocks.append(Table(["Rule", "Records touched", "Replacements", "Records filtered out"], rows))
    if idle:
        named = ", ".join(f"`{name}`" for name in idle)
        blocks.append(Text(f"{counted(len(idle), 'rule')} found nothing to do: {named}.", "quiet"))
    indented = summary.effects.get(INDENTATION)
    if indented is not None:
        kept = '`rules = "code"` in `[clean]` keeps it'
        blocks.append(
            Text(
                f"The indentation of {counted(indented.records, 'text')} was removed. If they hold source code, {kept}."
            )
        )
    if examples:
        shown = [row(Cell(e.rule, "name"), *_before_and_after(e)) for e in examples]
        caption = (
            "What a rule did, at the first place where it did something; what changed is marked, by a bar where "
            "something is gone. Personal data is masked in both. ↵ line break, ⇥ tab, · space (in marks and in a row), "
            "␣ a space that does not break, [U+…] a character that has no shape."
        )
        blocks.append(Table(["Rule", "Before", "After"], shown, caption))
    return ReportSection("Cleaning rules", blocks)


def _texts(cells: Sequence[Value]) -> list[str]:
    return [as_cell(value).text for value in cells]


def _before_and_after(example: Example) -> list[Value]:
    if example.left_out:
        shown = _marked(example.before, example.sign) if example.before else Cell("(not shown)", "quiet")
        return [shown, Cell("(left out)", "quiet")]
    hidden = Cell("(personal data: not shown)", "quiet")
    if not example.before:
        return [hidden, _marked(example.after, example.sign) if example.after else hidden]
    before, after = changed(example.before, example.after)
    parts = [
        [text[first:last] for first, last in marks]
        for text, marks in ((example.before, before), (example.after, after))
    ]
    if [normalize("NFC", part) for part in parts[0]] == [normalize("NFC", part) for part in parts[1]]:
        return [_spelled(example.before, before), _spelled(example.after, after)]
    return [Cell(example.before, "code", marks=before), Cell(example.after, "code", marks=after)]


def _spelled(text: str, marks: Sequence[tuple[int, int]]) -> Cell:
    """Mark a text, and spell out the combining characters in the marks: composed or not, they look alike."""
    spelled, bounds, at = "", [], 0
    for first, last in marks:
        part = "".join(f"[U+{ord(c):04X}]" if combining(c) else c for c in text[first:last])
        spelled += text[at:first] + part
        bounds.append((len(spelled) - len(part), len(spelled)))
        at = last
    return Cell(spelled + text[at:], "code", marks=bounds)


def _marked(text: str, sign: str) -> Cell:
    """Mark the masks in a text."""
    return Cell(
        text, "code", marks=[found.span() for found in re.finditer(re.escape(sign), text)] if sign else ()
    )


def changed(before: str, after: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the parts of two snippets that differ, as slice bounds; neighbouring ones are put together.

    What a snippet shows at its end only because the other one was cut off earlier is no difference.
    """
    pairs: list[tuple[int, int, int, int]] = []
    cut_off = "…" in (before[-1:], after[-1:])
    before, after = before.removesuffix("…"), after.removesuffix("…")
    for kind, i, i_end, j, j_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        at_end = (i_end, j_end) == (len(before), len(after))
        if at_end and pairs and cut_off:
            break
        if pairs and i - pairs[-1][1] < CLOSE and j - pairs[-1][3] < CLOSE:
            pairs[-1] = (pairs[-1][0], i_end, pairs[-1][2], j_end)
        else:
            pairs.append((i, i_end, j, j_end))
    return [pair[:2] for pair in pairs], [pair[2:] for pair in pairs]


def duplicates(summary: Summary, snippets: Mapping[str, str], mask: Callable[[str], str]) -> ReportSection:
    """Return the section on the sizes of the clusters, and the largest; `mask`: for ids, which may be e-mail
    addresses.
    """
    sizes: list[list[Value]] = []
    for low, high in _ranges(max([1, *summary.cluster_sizes])):
        inside = {s: n for s, n in summary.cluster_sizes.items() if low <= s <= high}
        if inside:
            records = sum(s * n for s, n in inside.items())
            name = f"{low:,}" if low == high else f"{low:,}–{high:,}"
            sizes.append([name, number(sum(inside.values())), number(records)])
    blocks: list[Block] = [
        Table(
            ["Records in the cluster", "Clusters", "Records"], sizes, "Copies and near-copies of one another."
        ),
    ]
    largest: list[list[Value]] = [
        [number(c.records), *_snippet(c, snippets), Cell(mask(c.record_id), "code")]
        for c in summary.largest_clusters
    ]
    if largest:
        header = ["Records", *(["Survivor, cleaned and masked"] if snippets else []), "Id of the survivor"]
        blocks.append(Table(header, largest, "The largest clusters."))
    return ReportSection("Duplicate clusters", blocks)


def _snippet(cluster: Cluster, snippets: Mapping[str, str]) -> list[Value]:
    return [Cell(snippets.get(cluster.record_id, ""), "code")] if snippets else []


LABEL_CONFLICTS = {
    "survivor": "each survivor has the label that it came with",
    "drop": "all of these records were left out",
    "keep": "all of these records were kept",
    "majority": "records with the most frequent label survived",
}
"""What became of clusters with several labels, by `deduplicate.label_conflicts`."""


def label_conflicts(
    summary: Summary, snippets: Mapping[str, str], config: Configuration, mask: Callable[[str], str]
) -> ReportSection:
    """Return the section on clusters whose records have different labels; `mask`: for ids and labels."""
    title = "Contradictory labels"
    if not summary.conflicting_clusters:
        return ReportSection(title, [Text("No copies or near-copies have different labels.", "good")])
    policy = config.deduplicate.label_conflicts
    clusters = counted(summary.conflicting_clusters, "cluster")
    found = Text(
        f"{summary.label_conflicts:,} records in {clusters} of copies and near-copies have different labels; "
        f'{LABEL_CONFLICTS[policy]} (deduplicate.label_conflicts = "{policy}").',
        "bad",
    )
    rows: list[list[Value]] = [
        [
            number(conflict.cluster.records),
            ", ".join(f"{mask(label)} {count:,}" for label, count in conflict.labels.items()),
            Cell(snippets.get(conflict.cluster.record_id, ""), "code"),
            Cell(mask(conflict.cluster.record_id), "code"),
        ]
        for conflict in summary.largest_conflicts
    ]
    header = ["Records", "Labels", "One of them, cleaned and masked", "Its id"]
    return ReportSection(title, [found, Table(header, rows, "The largest of these clusters.")])


def _ranges(largest: int) -> Iterable[tuple[int, int]]:
    """Return 1, 2, 3, 4–7, 8–15, … up to the one that holds `largest`."""
    yield from ((n, n) for n in (1, 2, 3))
    low = 4
    while low <= largest:
        yield low, 2 * low - 1
        low *= 2
