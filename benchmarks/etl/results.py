"""Figures from runs: medians, the document `etl.json` by size and system, the slope, and the Markdown tables."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.etl.systems import CORES, SYSTEMS
from benchmarks.generate import bytes_of

Sample = Mapping[str, Any]
"""Run as a dictionary (`watch.Run.as_dict`) with `warm`; only the last run of a turn counts."""

RATIOS = {"datatrove": 10.0, "text_dedup": 4.0}
DOCUMENTS_PER_SECOND, NEAR_MB, PIPELINE_MB = 10_000, 7.0, 3.0
SLOPE, PEAK_MB, WORKERS_GROWTH = 10.5, 8192, 1.3
RECALL, PRECISION = 0.999, 1.0


def median(samples: Sequence[Sample], *names: str) -> float | None:
    """Return the median of a figure, over the undisturbed runs where there are any."""
    quiet = [sample for sample in samples if not sample["disturbed"]] or list(samples)
    values = []
    for sample in quiet:
        value: Any = sample
        for name in names:
            value = value[name]
        values.append(value)
    return statistics.median(values) if values else None


def figures(samples: Sequence[Sample], size_bytes: int, documents: int) -> dict[str, Any]:
    """Return the entry of one system for one size; rates are of the files' bytes and lines."""
    warm = [sample for sample in samples if sample["warm"]]
    cold = [sample for sample in samples if not sample["warm"]]
    seconds = median(warm, "seconds")
    if not warm or seconds is None:
        return {"seconds": None, "runs": 0}
    mb = size_bytes / 1e6 / seconds
    found = {
        "seconds": seconds,
        # A peer has nothing to warm up but its imports; this product starts a Java machine and compiles.
        "cold_seconds": median(cold or warm, "cold_seconds"),
        "mb_per_second": mb,
        "mb_per_second_per_core": mb / CORES,
        "documents_per_second": documents / seconds,
        "cpu_seconds": median(warm, "cpu_seconds"),
        "peak_memory_mb": median(warm, "peaks", "all"),
        "peak_java_mb": median(warm, "peaks", "java"),
        "peak_python_workers_mb": median(warm, "peaks", "below_java"),
        **{
            name: median(warm, "more", name)
            for name in ("recall", "recall_exact", "recall_near", "precision")
        },
        "true_pairs": warm[-1]["more"]["true_pairs"],
        "shuffle_bytes": None,
        "files_bytes": size_bytes,
        "documents": documents,
        "runs": len(warm),
        "disturbed_runs": sum(sample["disturbed"] for sample in warm),
        "seconds_of_runs": [round(sample["seconds"], 3) for sample in warm],
        "cold_runs": len(cold),
    }
    if "shuffles" in warm[-1]["more"]:
        found["shuffle_bytes"] = statistics.median(sum(sample["more"]["shuffles"]) for sample in warm)
        found["largest_shuffles_bytes"] = warm[-1]["more"]["shuffles"][:5]
    return found


def slope(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the ratio of each system's time for 10 GB to that for 1 GB, and of its Python workers' memory."""
    found = {}
    small, large = document.get("1GB", {}), document.get("10GB", {})
    for name in small.keys() & large.keys():
        for figure, label in (("seconds", name), ("peak_python_workers_mb", f"{name}_python_workers_mb")):
            if small[name].get(figure) and large[name].get(figure):
                found[label] = large[name][figure] / small[name][figure]
    return found


def sizes_of(document: Mapping[str, Any]) -> list[str]:
    return sorted((name for name in document if name not in ("slope",)), key=bytes_of)


def goals(document: Mapping[str, Any]) -> list[tuple[str, float | None, float, bool]]:
    """Return name, value (None: not measured), bound, and whether the bound is an upper one."""
    near = {size: document[size].get("ours_near_duplicates", {}) for size in sizes_of(document)}
    pipeline = {size: document[size].get("ours_pipeline", {}) for size in sizes_of(document)}
    found: list[tuple[str, float | None, float, bool]] = []
    for size in sizes_of(document):
        ours = near[size]
        if ours.get("seconds"):
            found.append((f"{size}: recall", ours["recall"], RECALL, False))
            found.append((f"{size}: pair precision", ours["precision"], PRECISION, False))
            for peer, bound in RATIOS.items():
                theirs = document[size].get(peer, {})
                if theirs.get("seconds"):
                    found.append((f"{size}: times {peer}", theirs["seconds"] / ours["seconds"], bound, False))
                    cold = theirs["cold_seconds"] / ours["cold_seconds"]
                    found.append((f"{size}: times {peer}, both cold", cold, bound, False))
    one = near.get("1GB", {})
    found.append(
        ("1GB: documents/s, near-duplicates", one.get("documents_per_second"), DOCUMENTS_PER_SECOND, False)
    )
    found.append(("1GB: MB/s, near-duplicates", one.get("mb_per_second"), NEAR_MB, False))
    for size, entry in pipeline.items():
        if entry.get("seconds"):
            found.append((f"{size}: MB/s, whole pipeline", entry["mb_per_second"], PIPELINE_MB, False))
    growth = document.get("slope", {})
    for name in ("ours_near_duplicates", "ours_pipeline"):
        found.append((f"time from 1 to 10 GB, {name}", growth.get(name), SLOPE, True))
        workers = growth.get(f"{name}_python_workers_mb")
        found.append((f"memory of Python workers from 1 to 10 GB, {name}", workers, WORKERS_GROWTH, True))
        peak = document.get("10GB", {}).get(name, {}).get("peak_memory_mb")
        found.append((f"10GB: peak MB, {name}", peak, PEAK_MB, True))
    return found


def markdown(document: Mapping[str, Any]) -> str:
    """Return all tables, the smallest size first."""
    lines: list[str] = []
    for size in sizes_of(document):
        lines += [*_table(size, document[size]), ""]
    lines += [_goal(*each) for each in goals(document)]
    return "\n".join(lines) + "\n"


def _table(size: str, entries: Mapping[str, Any]) -> list[str]:
    lines = [
        f"### {size}",
        "",
        "| system | seconds | cold | MB/s | MB/s/core | documents/s | peak MB | Java | Python workers | shuffled MB "
        "| recall | near only | pair precision | runs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for system in SYSTEMS:
        entry = entries.get(system.name)
        if entry is None:
            continue
        if not entry.get("seconds"):
            lines.append(f"| {system.name} | failed |" + " |" * 12)
            continue
        shuffle = entry["shuffle_bytes"]
        disturbed = entry["disturbed_runs"]
        cells = (
            f"**{system.name}**" if system.what else system.name,
            f"{entry['seconds']:,.1f}",
            f"{entry['cold_seconds']:,.1f}",
            f"{entry['mb_per_second']:.2f}",
            f"{entry['mb_per_second_per_core']:.2f}",
            f"{entry['documents_per_second']:,.0f}",
            f"{entry['peak_memory_mb']:,.0f}",
            f"{entry['peak_java_mb']:,.0f}" if system.what else "",
            f"{entry['peak_python_workers_mb']:,.0f}" if system.what else "",
            "" if shuffle is None else f"{shuffle / 1e6:,.1f}",
            f"{entry['recall']:.4f}",
            f"{entry['recall_near']:.4f}",
            f"{entry['precision']:.4f}",
            f"{entry['runs']}" + (f" ({disturbed} disturbed)" if disturbed else ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _goal(name: str, value: float | None, bound: float, upper: bool) -> str:
    if value is None:
        return f"- {name}: not measured ({'at most' if upper else 'at least'} {bound:,g})"
    holds = value <= bound if upper else value >= bound
    shown = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"- {name}: {shown} ({'at most' if upper else 'at least'} {bound:,g}: {'holds' if holds else 'missed'})"
