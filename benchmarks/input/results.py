"""Figures from samples: medians, ratios, which goals hold; the JSON document and the Markdown table."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.input.cases import CASES, PEERS, TOKEN_SETS, Case
from benchmarks.input.kinds import kind_of

Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""By name of the case, or `pyarrow`."""

RATIO_TO_MEMORY_COPY, RATIO_TO_SHUFFLING_PEER = 0.8, 1.0
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
    data_set: str = "generated",
) -> dict[str, Any]:
    """Return the figures of a data set, by its name. A rate is None where a case did not run or failed."""
    found = {case.name: median(rates(samples, case.name)) for case in CASES}
    ours = found["ours"]
    plain, shards = (
        median([each[name] for each in samples.get("pyarrow", ())])
        for name in ("pyarrow_plain", "pyarrow_shards")
    )
    cpu = {case.name: median(cpu_microseconds(samples, case.name)) for case in CASES}
    named = ("ours", "limit", "memory_copy", *PEERS)
    others = {name: rate for name, rate in found.items() if name not in named}
    document: dict[str, Any] = {
        "name": data_set,
        "ours": ours,
        "limit": found["limit"],
        "peers": {name: found[name] for name in PEERS},
        "memory_copy": found["memory_copy"],
        "ratio_to_memory_copy": ratio(ours, found["memory_copy"]),
        "plain": kind_of(data_set).plain,
        "pyarrow_plain": plain,
        "pyarrow_shards": shards,
        "ratio_to_pyarrow": ratio(ours, plain),
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
    document["goals"] = goals(document) if data_set in TOKEN_SETS else goals_of_kinds(document, data_set)
    return document


def goals(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each goal for texts with its bound and the value; `holds` is None where nothing was measured."""
    fastest = _fastest(document, [case.name for case in CASES])
    return {
        "ratio_to_pyarrow": _goal(document["ratio_to_pyarrow"], RATIO_TO_PYARROW),
        "ratio_to_own_shards": _goal(document["ratio_to_own_shards"], RATIO_TO_OWN_SHARDS),
        "ratio_to_petastorm": _goal(document["ratio_to_peer"]["petastorm"], RATIO_TO_PETASTORM),
        "ratio_to_fastest_peer": _goal(ratio(document["ours"], fastest), 1.0),
        "cpu_microseconds_per_row": _goal(document["cpu_microseconds_per_row"], CPU_MICROSECONDS, True),
        "consumer_wait_share": _goal(document["consumer_wait_share"], WAIT_SHARE, True),
    }


def goals_of_kinds(document: Mapping[str, Any], data_set: str) -> dict[str, dict[str, Any]]:
    """Return the goals for images and tables: ahead of all peers that shuffle, and near a memory copy of wide rows."""
    fastest = _fastest(document, [case.name for case in CASES if case.shuffle != "none"])
    found = {"ratio_to_shuffling_peer": _goal(ratio(document["ours"], fastest), RATIO_TO_SHUFFLING_PEER)}
    if data_set == "images_224":
        found["ratio_to_memory_copy"] = _goal(document["ratio_to_memory_copy"], RATIO_TO_MEMORY_COPY)
    return found


def _goal(value: float | None, bound: float, at_most: bool = False) -> dict[str, Any]:
    holds = None if value is None else value <= bound if at_most else value >= bound
    return {"value": value, "at_most" if at_most else "at_least": bound, "holds": holds}


def _fastest(document: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """Return the rate of the fastest peer among cases."""
    rates = {**document["peers"], **document["variants"]}
    peers = [name for name in names if not name.startswith(("ours", "limit", "memory_copy"))]
    return max((rates[name] for name in peers if rates.get(name)), default=None)


def markdown(document: Mapping[str, Any], heading: str) -> str:
    """Return the table of one data set, without the cases that did not run on it."""
    lines = [
        f"### {heading}",
        "",
        "| loader | rows/s | of memory copy | of pyarrow | CPU µs/row | memory MB | shuffle | exact on 2 ranks "
        "| settings |",
        "|---|--:|--:|--:|--:|--:|---|---|---|",
    ]
    plain, copied = document["pyarrow_plain"], document["memory_copy"]
    for name, rate, settings in (
        (f"raw pyarrow, {document['plain']}", plain, "1 thread, zstd, to Arrow only"),
        ("raw pyarrow, the shards as stored", document["pyarrow_shards"], "1 thread, to Arrow only"),
    ):
        lines.append(
            f"| {name} | {_thousands(rate)} | {_two(ratio(rate, copied))} | {_two(ratio(rate, plain))} | | | none | "
            f"| {settings} |"
        )
    lines += [_line(case, document) for case in CASES if case.runs_on(document["name"])]
    return "\n".join(lines) + "\n\n" + _below(document)


def _line(case: Case, document: Mapping[str, Any]) -> str:
    rate = {**document, **document["peers"], **document["variants"]}[case.name]
    name = f"**{case.name}**" if case.name == "ours" else case.name
    cpu = _two(document["cpu_microseconds_per_row_by_loader"].get(case.name))
    memory = document["peak_memory_mb_by_loader"].get(case.name)
    exact = _exact(document["exactness"].get(case.name))
    return (
        f"| {name} | {_thousands(rate)} | {_two(ratio(rate, document['memory_copy']))} "
        f"| {_two(ratio(rate, document['pyarrow_plain']))} | {cpu} | {_thousands(memory)} "
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
