"""Figures from samples: medians, ratios to ours; the JSON document and the Markdown table."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.minhash.cases import CASES

Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""By name of the case."""


def summary(samples: Samples, versions: Mapping[str, str], missing: Mapping[str, str]) -> dict[str, Any]:
    """Return medians of all samples that did not fail; `documents_per_second` is of processor time: of one core."""
    cases = {}
    for case in CASES:
        ran = [each for each in samples.get(case.name, ()) if "error" not in each]
        if not ran:
            continue
        cases[case.name] = {
            "documents_per_second": statistics.median(each["done"] / each["cpu_seconds"] for each in ran),
            "documents_per_second_by_the_clock": statistics.median(
                each["done"] / each["seconds"] for each in ran
            ),
            "mb_per_second": statistics.median(each["bytes"] / 1e6 / each["cpu_seconds"] for each in ran),
            "whole": case.whole,
            "done": case.done,
            "texts": ran[0]["texts"],
            "rounds": len(ran),
            "samples": [each["done"] / each["cpu_seconds"] for each in ran],
        }
    whole = {name: each["documents_per_second"] for name, each in cases.items() if each["whole"]}
    return {
        "cases": cases,
        "fastest": max(whole, key=lambda name: whole[name], default=None),
        "ratio_of_ours_to": {
            name: whole["ours"] / rate for name, rate in whole.items() if name != "ours" and "ours" in whole
        },
        "versions": dict(versions),
        "missing": dict(missing),
    }


def markdown(document: Mapping[str, Any]) -> str:
    """Return the table."""
    lines = [
        "| kernel | documents/s per core | MB/s | by the clock | of ours | what did what |",
        "|---|--:|--:|--:|--:|---|",
    ]
    cases = document["cases"]
    ours = {True: cases.get("ours"), False: cases.get("ours, hashes to values")}
    for name, each in sorted(
        cases.items(), key=lambda item: (not item[1]["whole"], -item[1]["documents_per_second"])
    ):
        beside = ours[each["whole"]]
        ratio = f"{each['documents_per_second'] / beside['documents_per_second']:.2f}" if beside else ""
        lines.append(
            f"| {name} | {each['documents_per_second']:,.0f} | {each['mb_per_second']:.1f} "
            f"| {each['documents_per_second_by_the_clock']:,.0f} | {ratio} | {each['done']} |"
        )
    lines += ["", ", ".join(f"{name} {version}" for name, version in document["versions"].items())]
    return "\n".join(lines) + "\n"
