"""Ranks for tests of the launcher: they sum one tensor again and again until a file tells them to stop.

Argument: the file. Each rank prints a digest of the variable PLANTED, and every 20 sums how many it has made.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import horovod.torch as hvd
import torch


def sum_until(stop: Path) -> None:
    digest = hashlib.sha256(os.environb.get(b"PLANTED", b"")).hexdigest()
    print(f"rank {hvd.rank()} was given {digest}", flush=True)
    sums = 0
    # All stop in the same step, no matter which sees the file first.
    while not hvd.allreduce(torch.tensor([float(stop.exists())]), op=hvd.Sum, name="stop").item():
        sums += 1
        if sums % 20 == 0:
            print(f"rank {hvd.rank()} made {sums} sums", flush=True)
        time.sleep(0.02)


def sum_elastically(state: hvd.elastic.TorchState, stop: Path) -> None:
    sum_until(stop)


if __name__ == "__main__":
    hvd.init()
    if os.environ.get("HOROVOD_ELASTIC") == "1":
        hvd.elastic.run(sum_elastically)(hvd.elastic.TorchState(), Path(sys.argv[1]))
    else:
        sum_until(Path(sys.argv[1]))
