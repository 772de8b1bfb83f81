"""Measurement of one loader in this process: `python -m benchmarks.input.measure LOADER --folder F` prints one line
of JSON.

`--prepare N` writes the loader's own copy of N rows. Otherwise it reads: first a pass to warm up, then the timed one,
from opening the data to the last batch; with `--check FILE` it makes passes whose rows are compared with `rows.npy`
and whose numbers are written to FILE.
"""

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.input.loaders import Job, Loader

WARM_UP_SECONDS = 3.0


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def read(loader: Loader, job: Job, limit: float) -> dict[str, Any]:
    """Make one pass, which ends after `limit` seconds at the latest."""
    rows, identities, dtype = 0, [], ""
    cpu, began = cpu_seconds(), time.perf_counter()
    batches = loader.batches(job)
    whole = True
    for values, identity in batches:
        rows += len(values)
        identities.append(identity)
        dtype = str(values.dtype)
        if time.perf_counter() - began > limit:
            whole = False
            break
    seconds = time.perf_counter() - began
    batches.close()  # ends the loader's processes, whose time counts only then
    return {
        "rows": rows,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds() - cpu,
        "whole": whole,
        "dtype": dtype.removeprefix("torch."),
        "distinct": len(np.unique(loader.numbers(identities, job.folder))),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def check(loader: Loader, job: Job, passes: int, file: Path) -> dict[str, Any]:
    """Write the row numbers of each pass to `file`, an array each; return how many rows had other values."""
    expected = np.load(job.folder / "rows.npy", mmap_mode="r")
    wrong, found = 0, []
    for _ in range(passes):
        numbers = [np.zeros(0, dtype=np.int64)]
        for values, identity in loader.batches(job):
            numbers.append(loader.numbers([identity], job.folder))
            same = np.asarray(values).reshape(len(values), -1)
            wrong += int((same != expected[numbers[-1]].reshape(same.shape)).any(axis=1).sum())
        found.append(np.concatenate(numbers))
    np.savez(file, *found)
    return {"rows": sum(map(len, found)), "wrong": wrong}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loader")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--prepare", type=int, metavar="ROWS")
    parser.add_argument("--check", type=Path, metavar="FILE")
    parser.add_argument("--passes", type=int, default=1, help="of --check, each with a reader of its own")
    arguments = parser.parse_args(argv)
    loader: Loader = importlib.import_module(f"benchmarks.input.loaders.{arguments.loader}")
    job = Job(arguments.folder, arguments.epochs, arguments.rank, arguments.ranks, arguments.options)
    if arguments.prepare is not None:
        began = time.perf_counter()
        loader.prepare(arguments.folder, arguments.prepare)
        result: dict[str, Any] = {"rows": arguments.prepare, "seconds": time.perf_counter() - began}
    elif arguments.check is not None:
        result = check(loader, job, arguments.passes, arguments.check)
    else:
        read(loader, job, min(arguments.limit, WARM_UP_SECONDS))
        result = read(loader, job, arguments.limit)
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
