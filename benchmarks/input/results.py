"""Figures from samples: medians, ratios, which goals hold; the JSON document and the Markdown table."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.input.cases import CASES, PEERS, Case

Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""By name of the case, or `pyarrow`."""

RATIO_TO_PYARROW, RATIO_TO_OWN_SHARDS, RATIO_TO_PETASTORM = 2.0, 1.0, 8.0
CPU_MICROSECONDS, WAIT_SHARE = 1.0, 0.02


def rates(samples: Samples, name: str) -> list[float]:
    """Return the rows per second of each sample of a case that did not fail."""
    return [each["rows"] / each["seconds"] for each in samples.get(name, ()) if "error" not in each]


def cpu_microseconds(samples: Samples, name: str) -> list[float]:
    """Return the processor time a row of each sample, worker processes included."""
    ran = (each for each in samples.get(name, ()) if "error" not in each)
    return [each["cpu_seconds"] / each["rows"] * 1e6 for each in ran]


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def ratio(value: float | None, to: float | None) -> float | None:
    return value / to if value and to else None


def summary(
    samples: Samples,
    exact: Mapping[str, Mapping[str, Any]],
    peaks: Mapping[str, float],
    consumer: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the figures of one data set. A rate is None where a case did not run or failed."""
    found = {case.name: median(rates(samples, case.name)) for case in CASES}
    ours = found["ours"]
    listed, shards = (
        median([each[name] for each in samples.get("pyarrow", ())])
        for name in ("pyarrow_list_int32", "pyarrow_shards")
    )
    cpu = {case.name: median(cpu_microseconds(samples, case.name)) for case in CASES}
    named = ("ours", "limit", *PEERS)
    others = {name: rate for name, rate in found.items() if name not in named}
    document: dict[str, Any] = {
        "ours": ours,
        "limit": found["limit"],
        "peers": {name: found[name] for name in PEERS},
        "pyarrow_list_int32": listed,
        "pyarrow_shards": shards,
        "ratio_to_pyarrow": ratio(ours, listed),
        "ratio_to_own_shards": ratio(ours, shards),
        "ratio_to_peer": {name: ratio(ours, found[name]) for name in PEERS},
        "shuffle": {case.name: case.shuffle for case in CASES},
        "exact": {name: exact[name]["exact"] if name in exact else None for name in named},
        "exactness": exact,
        "peak_memory_mb": peaks.get("ours"),
        "peak_memory_mb_by_loader": peaks,
        "cpu_microseconds_per_row": cpu["ours"],
        "cpu_microseconds_per_row_by_loader": cpu,
        "consumer_wait_share": consumer["wait_share"] if consumer else None,
        "consumer": consumer,
        "variants": others,
        "settings": {case.name: case.settings for case in CASES},
        "rounds": len(samples.get("ours", ())),
        "samples": {name: rates(samples, name) for name in found},
    }
    document["goals"] = goals(document)
    return document


def goals(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each goal with its bound and the value; `holds` is None where nothing was measured."""
    fastest = max(
        (
            rate
            for name, rate in {**document["peers"], **document["variants"]}.items()
            if rate and not name.startswith(("ours", "limit"))
        ),
        default=None,
    )

    def goal(value: float | None, bound: float, at_most: bool = False) -> dict[str, Any]:
        holds = None if value is None else value <= bound if at_most else value >= bound
        return {"value": value, "at_most" if at_most else "at_least": bound, "holds": holds}

    return {
        "ratio_to_pyarrow": goal(document["ratio_to_pyarrow"], RATIO_TO_PYARROW),
        "ratio_to_own_shards": goal(document["ratio_to_own_shards"], RATIO_TO_OWN_SHARDS),
        "ratio_to_petastorm": goal(document["ratio_to_peer"]["petastorm"], RATIO_TO_PETASTORM),
        "ratio_to_fastest_peer": goal(ratio(document["ours"], fastest), 1.0),
        "cpu_microseconds_per_row": goal(document["cpu_microseconds_per_row"], CPU_MICROSECONDS, True),
        "consumer_wait_share": goal(document["consumer_wait_share"], WAIT_SHARE, True),
    }


def markdown(document: Mapping[str, Any], heading: str) -> str:
    """Return the table of one data set."""
    lines = [
        f"### {heading}",
        "",
        "| loader | rows/s | of pyarrow | CPU µs/row | memory MB | shuffle | exact on 2 ranks | settings |",
        "|---|--:|--:|--:|--:|---|---|---|",
    ]
    listed = document["pyarrow_list_int32"]
    for name, rate, settings in (
        ("raw pyarrow, list<int32>", listed, "1 thread, zstd, to Arrow only"),
        ("raw pyarrow, the shards as stored", document["pyarrow_shards"], "1 thread, to Arrow only"),
    ):
        lines.append(
            f"| {name} | {_thousands(rate)} | {_two(ratio(rate, listed))} | | | none | | {settings} |"
        )
    for case in CASES:
        lines.append(_line(case, document, listed))
    return "\n".join(lines) + "\n\n" + _below(document)


def _line(case: Case, document: Mapping[str, Any], listed: float | None) -> str:
    rate = {**document, **document["peers"], **document["variants"]}[case.name]
    name = f"**{case.name}**" if case.name == "ours" else case.name
    cpu = _two(document["cpu_microseconds_per_row_by_loader"].get(case.name))
    memory = document["peak_memory_mb_by_loader"].get(case.name)
    exact = _exact(document["exactness"].get(case.name))
    return (
        f"| {name} | {_thousands(rate)} | {_two(ratio(rate, listed))} | {cpu} | {_thousands(memory)} "
        f"| {case.shuffle} | {exact} | {case.settings} |"
    )


def _exact(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if "error" in found:
        return "failed"
    parts = [f"{found[name]} {name}" for name in ("lost", "repeated", "wrong") if found[name]]
    return ", ".join(parts) or "yes"


def _below(document: Mapping[str, Any]) -> str:
    lines = []
    for name, goal in document["goals"].items():
        bound = f"at most {goal['at_most']}" if "at_most" in goal else f"at least {goal['at_least']}"
        holds = {True: "holds", False: "missed", None: "not measured"}[goal["holds"]]
        lines.append(f"- {name.replace('_', ' ')}: {_figure(goal['value'])} ({bound}: {holds})")
    return "\n".join(lines) + "\n"


def _thousands(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
