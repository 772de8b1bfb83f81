"""Results as a Markdown table, also readable on the terminal."""

from collections.abc import Mapping
from typing import Any

from benchmarks.scaling.cases import CEILING


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table a model: rate, ratio to the ceiling with its range, and the breakdown of a step's time."""
    parts = []
    for model, figures in results.items():
        lines = [
            f"**{model}**: {figures['parameters']:,} parameters\n",
            "| case | samples/s | of the ceiling | range | step, ms | training thread, ms | other threads, ms |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, times in figures["milliseconds_of_a_step"].items():
            row = [name, f"{figures[name]:,.0f}"]
            if name == CEILING:
                row += ["1", ""]
            else:
                each = figures["ratios"][name]
                row += [f"{figures[name + '_ratio']:.3f}", f"{min(each):.3f}–{max(each):.3f}"]
            row += [f"{times[key]:,.1f}" for key in ("wall", "training_thread", "other_threads")]
            lines.append("| " + " | ".join(row) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
