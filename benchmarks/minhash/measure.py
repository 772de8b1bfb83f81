"""Measurement of one kernel in this process, on one core: `python -m benchmarks.minhash.measure KERNEL --texts F`
prints JSON.

A first pass warms up (code is loaded, Java compiles); the second is timed: wall clock, and the processor time of this
process and its descendants, which on a busy machine says more.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.minhash import texts
from benchmarks.process_tree import descendants, statuses


def cpu_seconds_below() -> float:
    """Return the processor time of the processes below this one, in the system's ticks."""
    running = statuses()
    below = (process for process in descendants(os.getpid(), running) if process != os.getpid())
    return sum(running[process].cpu_seconds for process in below if process in running)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kernel")
    parser.add_argument("--run", default="run")
    parser.add_argument("--prepare", default="prepare")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--count", type=int)
    arguments = parser.parse_args(argv)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    given = texts.read(arguments.texts, arguments.count)
    kernel = importlib.import_module(f"benchmarks.minhash.kernels.{arguments.kernel}")
    run = getattr(kernel, arguments.run)
    prepared = getattr(kernel, arguments.prepare)(given)
    run(prepared)
    below = cpu_seconds_below()
    cpu, began = time.process_time(), time.perf_counter()
    done = run(prepared)
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    used += cpu_seconds_below() - below
    size = sum(len(text.encode()) for text in given)
    print(
        json.dumps(
            {"texts": len(given), "done": done, "bytes": size, "seconds": seconds, "cpu_seconds": used}
        ),
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
