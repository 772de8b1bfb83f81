"""Memory over time: resident megabytes of a process after some of 100 epochs.

`python -m benchmarks.input.memory --folder F` prints one line of JSON for one data set; the comparison runs it on a
small one and on one four times as large.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.input.loaders import Job
from benchmarks.input.loaders.ringlake import feed_of

AFTER = (5, 25, 50, 75, 100)


def resident_mb() -> float:
    """Return VmRSS of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def over_epochs(job: Job, after: Sequence[int]) -> dict[int, float]:
    """Read `max(after)` epochs with one loader; return megabytes after each of the given numbers of epochs."""
    found = {}
    with feed_of(Job(job.folder, max(after), options=job.options)) as loader:
        epoch = 0
        for batch in loader:
            if batch.epoch > epoch:
                epoch = batch.epoch
                if epoch in after:
                    found[epoch] = resident_mb()
        found[max(after)] = resident_mb()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--after", type=int, nargs="+", default=list(AFTER), metavar="EPOCHS")
    arguments = parser.parse_args(argv)
    print(
        json.dumps(over_epochs(Job(arguments.folder, options=arguments.options), arguments.after)), flush=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
