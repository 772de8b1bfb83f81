"""Synthetic consumer: takes rows at a fixed rate, as one rank of several, and reports how long it waited for them.

`python -m benchmarks.input.consumer --folder F --rank r --ranks R` prints one line of JSON. It takes a batch, is busy
for as long as its rows take at the rate (asleep, so that it costs the reader no processor time), and takes the next.
"""

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.input.loaders import Job
from benchmarks.input.loaders.ringlake import feed_of
from training.input.batch_loader import LocalBatch

PR_SET_TIMERSLACK = 29


def consume(job: Job, rate: float) -> dict[str, float]:
    """Return `wait_share`: the share of the time from the second batch on spent in `next`, however short each wait.

    `late_share` counts only what exceeded 100 µs a batch: waits that a training step would notice.
    """
    if sys.platform == "linux":  # wake up from sleep within microseconds
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    waited = late = longest = 0.0
    rows = batches = 0
    with feed_of(job) as feed:
        opened = time.perf_counter()
        batch: LocalBatch | None = next(feed)
        began = due = time.perf_counter()
        first = began - opened
        while batch is not None:
            rows, batches = rows + batch.rows, batches + 1
            # The overshoot of a sleep is subtracted from the next one, so that the rate is kept.
            due += batch.rows / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            asked = time.perf_counter()
            batch = next(feed, None)
            seconds = time.perf_counter() - asked
            waited, late, longest = waited + seconds, late + max(0.0, seconds - 1e-4), max(longest, seconds)
            due += seconds
        total = time.perf_counter() - began
    return {
        "wait_share": waited / total,
        "late_share": late / total,
        "longest_ms": longest * 1000,
        "microseconds_per_batch": waited / batches * 1e6,
        "first_batch_seconds": first,
        "rows_per_second": rows / total,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rate", type=float, default=200_000, metavar="ROWS", help="per second and rank")
    arguments = parser.parse_args(argv)
    job = Job(arguments.folder, arguments.epochs, arguments.rank, arguments.ranks, arguments.options)
    print(json.dumps(consume(job, arguments.rate)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
