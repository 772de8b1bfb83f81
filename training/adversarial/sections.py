"""Section of the run report on a model under attack."""

from typing import Any

from common.pages.page import Block, Picture, Pictures, ReportSection, Table, Text, Value, figure
from common.wording import counted
from training.reporting.comparisons import shown_name

UNITS = {
    "image": "each level by at most {percent} of the range",
    "numbers": "each number by at most {epsilon:g} on its scale in the shards",
    "embedding": "each number of a token's embedding by at most {epsilon:g} times the root mean square of the table, "
    "which certifies nothing about edited texts",
}


def attacks(evaluation: dict[str, Any] | None) -> list[ReportSection]:
    """Show the figure under each attack beside the clean one, and examples as pictures; nothing without attacks."""
    found = None if evaluation is None else evaluation.get("attacks")
    if found is None:
        return []
    name, pgd = found["figure"], found["pgd"]
    rows: list[list[Value]] = []
    for attack, told in (
        ("clean", "No attack"),
        ("fgsm", "FGSM: one step along the sign of the gradient"),
        (
            "pgd",
            f"PGD-{pgd['steps']}: {counted(pgd['steps'], 'step')}, worst of {counted(pgd['restarts'], 'random start')}",
        ),
    ):
        one = found[attack]
        ends = "–" if one["interval"] is None else " to ".join(figure(end).text for end in one["interval"])
        rows.append([told, figure(one[name]), ends])
    epsilon = pgd["epsilon"]
    moved = [
        f"`{feature}`: " + UNITS[kind].format(epsilon=epsilon, percent=f"{100 * epsilon:g}%")
        for feature, kind in found["moved"].items()
    ]
    blocks: list[Block] = [
        Table(["", shown_name(name, start=True), "95% interval"], rows),
        Text(
            f"Over {counted(found['rows'], 'row')} of {found['split_rows']:,}, chosen by record key, within "
            f"ε = {epsilon:g} ({'; '.join(moved)}). Judge by PGD: a model can withstand single steps by hiding its "
            "gradients. A row counts by the worst of all that was tried, the clean row and FGSM's included; stronger "
            "attacks may find more.",
            "quiet",
        ),
    ]
    if examples := found["examples"]:
        blocks.append(_pictures(examples))
    return [ReportSection(f"Under attack, ε = {epsilon:g}", blocks)]


def _pictures(examples: list[dict[str, Any]]) -> Pictures:
    groups = []
    for one in examples:
        names = (f"taken for {one['clean']}", f"taken for {one['attacked']}", "difference")
        pictures = [Picture(png, name) for png, name in zip(one["pictures"], names, strict=True)]
        groups.append((f"{one['true']} ({one['record_id']})", pictures))
    lost = sum(one["lost"] for one in examples)
    caption = (
        "Rows by their true class: as they are, under PGD, and the difference, gray where nothing moved, black and "
        f"white where a level moved by ε. {'All of them' if lost == len(examples) else str(lost)} were taken rightly "
        "before, and wrongly under attack."
    )
    return Pictures(groups, caption)
