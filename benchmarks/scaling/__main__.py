"""Samples/s of two ranks beside those of two processes that do not communicate: `python -m benchmarks.scaling`.

Every case is a group of processes that stays alive and is stopped while others have their turn. The ceiling has its
turn between every two others, and each is compared with its neighbours; the median over the passes counts. Writes
scaling.json and scaling.md to --output; with --tuning the cases that show what each tuning brings, to tuning.json.
"""

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.scaling import figures, table
from benchmarks.scaling.cases import CASES, CEILING, TUNING, Case
from benchmarks.scaling.groups import Group, Slice
from benchmarks.scaling.workload import MODELS, Workload
from common import command
from common.progress import log

OUTPUT = Path(__file__).parents[1] / "results"
SECONDS, STEPS = 1.5, 8
"""Approximate length of a turn."""
ALIVE = 3
"""Cases beside the ceiling that are held in memory at a time; each process takes about a gigabyte."""
WARM_UP = 1.5
"""Seconds of training before the first turn, at least."""


def measure(model: str, cases: Mapping[str, Case], passes: int) -> dict[str, Any]:
    """Return all figures of a model, with as many cases as are alive at a time."""
    log(f"{model}: starting {', '.join(cases)} …")
    with ExitStack() as stack:
        groups = {}
        for name, case in cases.items():
            groups[name] = Group(name, case, model)
            stack.callback(groups[name].close)
        for group in groups.values():
            group.wait()
        estimate = groups[CEILING].run(2).seconds
        warm_up, steps = max(2, round(WARM_UP / estimate)), max(STEPS, round(SECONDS / estimate))
        for group in groups.values():
            group.run(warm_up)
        slices_of: dict[str, list[Slice]] = {name: [] for name in cases}
        found = []
        for number in range(passes):
            order = figures.schedule(list(cases), number)
            slices = [groups[name].run(steps) for name in order]
            for name, one in zip(order, slices, strict=True):
                slices_of[name].append(one)
            found.append(figures.ratios(order, [one.rate for one in slices]))
            log(f"{model}: pass {number + 1}/{passes}")
    return describe(model, slices_of, found)


def chunks(cases: Mapping[str, Case]) -> list[dict[str, Case]]:
    """Return groups of ALIVE cases each, every one with the ceiling."""
    others = [name for name in cases if name != CEILING]
    return [
        {name: cases[name] for name in (CEILING, *others[first : first + ALIVE])}
        for first in range(0, len(others), ALIVE)
    ]


def describe(
    model: str, slices_of: Mapping[str, Sequence[Slice]], found: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return rates and ratios under the names that readers of scaling.json look for, and their background."""
    ratios = figures.medians(found)
    result: dict[str, Any] = {
        name: round(median(s.rate for s in slices), 1) for name, slices in slices_of.items()
    }
    result |= {f"{name}_ratio": round(ratio, 4) for name, ratio in ratios.items()}
    result["ratios"] = {name: [round(one[name], 4) for one in found] for name in ratios}
    result["milliseconds_of_a_step"] = {
        name: {
            "wall": round(1e3 * median(s.seconds for s in slices), 2),
            "training_thread": round(1e3 * median(s.main_seconds for s in slices), 2),
            "other_threads": round(1e3 * median(s.other_seconds for s in slices), 2),
        }
        for name, slices in slices_of.items()
    }
    result["parameters"] = sum(p.numel() for p in Workload(model, 0, even=True).build().parameters())
    return result


def merged(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Merge figures: cases that were not measured this time keep theirs; the ceiling is that beside `horovod`."""
    keep = CEILING in before and "horovod" not in now
    joined = {**before, **{name: value for name, value in now.items() if not (keep and name == CEILING)}}
    for name, value in now.items():
        if isinstance(value, dict):
            new = {case: figure for case, figure in value.items() if not (keep and case == CEILING)}
            joined[name] = {**before.get(name, {}), **new}
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the files, where figures not measured now stay."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument(
        "--passes", type=int, default=8, metavar="N", help="comparisons of each case (default 8)"
    )
    parser.add_argument("--tuning", action="store_true", help="what each tuning brings, instead of the table")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only these, and the ceiling")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FOLDER")
    arguments = parser.parse_args(argv)
    cases = TUNING if arguments.tuning else CASES
    if arguments.cases:
        cases = {name: case for name, case in cases.items() if name in (*arguments.cases, CEILING)}
    # So that a termination request also ends the stopped processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / ("tuning.json" if arguments.tuning else "scaling.json")
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for model in arguments.models:
        for some in chunks(cases):
            results[model] = merged(results.get(model, {}), measure(model, some, arguments.passes))
            file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = table.markdown(results)
    file.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
