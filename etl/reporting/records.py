"""Sections of the data-quality report on the outcomes of the records, from figures alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from common.pages.page import Block, Cell, Link, ReportSection, Table, Text, Tile, Value, number, share
from etl.figures.facts import Summary
from etl.gates.results import GateResults
from etl.reporting.examples import Example, Reason
from etl.rules.personal_data import rule_of
from schemas.cleaning import PersonalDataRule
from schemas.config import Configuration
from schemas.tables import SPLITS

INDENTATION = "white_space.indentation"
"""Effect of the rule white_space: lines whose indentation it removed."""


def row(*values: Value) -> list[Value]:
    """Return a row of a table."""
    return list(values)


def tiles(summary: Summary, gates: GateResults) -> list[Tile]:
    """Return the figures at the top."""
    read = summary.records_in
    passed = sum(gate.passed for gate in gates.gates)
    duplicates = summary.exact_duplicates + summary.near_duplicates

    def of_read(count: int) -> str:
        return f"{100 * count / read:.1f}% of what was read" if read else ""

    return [
        Tile("Records read", f"{read:,}", f"from {sum(s.files for s in summary.sources):,} files"),
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
        rows.append(
            [Cell(f"of these {split}", tone="quiet"), "", number(count), share(count, read, bar=True)]
        )
    adds_up = summary.records_in == summary.accounted
    verdict = (
        Text("Every record that was read is in exactly one of these rows.")
        if adds_up
        else Text(f"{abs(read - summary.accounted):,} records are unaccounted for.", "bad")
    )
    return ReportSection("Funnel", [Table(["", "Removed", "Left", "Of what was read"], rows), verdict])


def gate_table(gates: GateResults, data_docs: str) -> ReportSection:
    """Return the table of all gates, with the observed and the allowed value."""
    rows: list[list[Value]] = []
    for gate in gates.gates:
        verdict = Cell("passed", "good") if gate.passed else Cell("failed", "bad")
        said = f"{'; '.join(gate.failures)}: {gate.remedy}" if gate.failures else ""
        rows.append([gate.name, Cell(gate.observed, number=True), gate.allowed, verdict, said])
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
    note = Text("The raw bytes of each of them are in bronze/quarantine.", "quiet")
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
    blocks: list[Block] = [
        Table(["Rule", "Records touched", "Replacements", "Records filtered out"], rows),
    ]
    indented = summary.effects.get(INDENTATION)
    if indented is not None:
        kept = 'rules = "code" in [clean] keeps it'
        blocks.append(
            Text(
                f"The indentation of {indented.records:,} texts was removed. If they hold source code, {kept}."
            )
        )
    if examples:
        shown = [row(Cell(e.rule, "name"), *_before_and_after(e)) for e in examples]
        caption = (
            "What a rule did, at the first place where it did something. Personal data is masked in both. ↵ line "
            "break, ⇥ tab, · spaces in a row, ␣ a space that does not break, [U+…] a character that has no shape."
        )
        blocks.append(Table(["Rule", "Before", "After"], shown, caption))
    return ReportSection("Cleaning rules", blocks)


def _before_and_after(example: Example) -> list[Value]:
    if example.left_out:
        before = Cell(example.before, "code") if example.before else Cell("(not shown)", "quiet")
        return [before, Cell("(left out)", "quiet")]
    hidden = Cell("(personal data: not shown)", "quiet")
    if not example.before:
        return [hidden, Cell(example.after, "code") if example.after else hidden]
    return [Cell(example.before, "code"), Cell(example.after, "code")]


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
            ["Records in the cluster", "Clusters", "Records"], sizes, "Copies and near-copies of one text."
        ),
    ]
    largest: list[list[Value]] = [
        [number(c.records), Cell(snippets.get(c.record_id, ""), "code"), Cell(mask(c.record_id), "code")]
        for c in summary.largest_clusters
    ]
    if largest:
        blocks.append(
            Table(["Records", "Survivor, cleaned and masked", "Its id"], largest, "The largest clusters.")
        )
    return ReportSection("Duplicate clusters", blocks)


def _ranges(largest: int) -> Iterable[tuple[int, int]]:
    """Return 1, 2, 3, 4–7, 8–15, … up to the one that holds `largest`."""
    yield from ((n, n) for n in (1, 2, 3))
    low = 4
    while low <= largest:
        yield low, 2 * low - 1
        low *= 2
