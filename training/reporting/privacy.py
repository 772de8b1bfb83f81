"""Section of the run report on differential privacy."""

from collections.abc import Mapping
from typing import Any

from common.pages.page import Block, Points, ReportSection, Table, Text, remarks

SAMPLINGS = {
    "once": "every row once an epoch, without amplification",
    "poisson": "Poisson, with amplification",
}


def section(training: Mapping[str, Any]) -> list[ReportSection]:
    """Return what the training promises of single rows, and what not; [] where it promises nothing.

    `training` is that section of summary.json.
    """
    found = training.get("privacy")
    if found is None:
        return []
    rows = [
        ["ε", f"{found['epsilon']:.4g}"],
        ["δ", f"{found['delta']:g}"],
        ["hidden is", found["adjacency"]],
        ["noise multiplier σ", f"{found['noise_multiplier']:.4g}"],
        ["largest norm of a row's gradient C", f"{found['clip_norm']:g}"],
        ["rows come", SAMPLINGS[found["sampling"]]],
    ]
    blocks: list[Block] = [
        Text(
            "Whoever sees the weights of all checkpoints can tell the data from others that differ in what is hidden "
            f"only as well as ε = {found['epsilon']:.3g} with δ = {found['delta']:g} allows."
        ),
        Table(["promise", "value"], rows),
        Text("This says nothing of:"),
        Points(remarks(found["not_covered"])),
    ]
    return [ReportSection("Privacy", blocks)]
