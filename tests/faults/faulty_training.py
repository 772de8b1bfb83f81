"""A training for tests, started by horovodrun, that records the rows it trains on and fails on demand.

    python faulty_training.py KEYS_FOLDER FAULT --config … --run …

KEYS_FOLDER: every rank appends a JSON line per batch, with position and record keys, to a file of its own there; "" for
none.
FAULT: `kind@rank@position`, suffered by that rank when it takes the batch that ends there or later; "" for none. Kinds:
kill, segfault, exit, raise, stop (SIGSTOP), term (SIGTERM), hang; job (SIGKILL of the whole job, launcher included);
delete, truncate and alter, which happen to the shard that RINGLAKE_TEST_PATH names; fill, which fills the file system
of that folder, and lock, which makes that folder read-only. It happens once: RINGLAKE_TEST_ONCE names a folder for a
file that records it, and its position.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common import command
from tests.faults.job import TOKEN, end, with_token
from training.engine.loop import Loop
from training.input.batch_loader import BatchLoader, LocalBatch
from training.silos import loading
from training.train import main


class OwnError(RuntimeError):
    """Error on a single rank."""


def damage(kind: str, shard: Path) -> None:
    if kind == "delete":
        shard.unlink()
    elif kind == "truncate":
        os.truncate(shard, shard.stat().st_size // 3)
    else:
        # Another label in every row: a valid file, but not the one that was published.
        file = pq.ParquetFile(shard)
        other = shard.with_suffix(".other")
        with pq.ParquetWriter(other, file.schema_arrow, compression="zstd") as writer:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                place = table.schema.get_field_index("label_index")
                labels = pc.subtract(2, table.column(place)).cast(pa.int32())
                writer.write_table(table.set_column(place, table.schema.field(place), labels))
        other.replace(shard)


def suffer(kind: str) -> None:
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "segfault":
        ctypes.string_at(0)
    elif kind == "exit":
        os._exit(1)
    elif kind == "raise":
        raise OwnError("an error of this rank's own")
    elif kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    elif kind == "hang":
        time.sleep(3600)
    elif kind == "job":
        others = [process for process in with_token(os.environ[TOKEN]) if process != os.getpid()]
        for process in others:
            end(process)
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind in ("delete", "truncate", "alter"):
        damage(kind, Path(os.environ["RINGLAKE_TEST_PATH"]))
    elif kind == "fill":
        with (Path(os.environ["RINGLAKE_TEST_PATH"]) / "filler").open("wb", buffering=0) as filler:
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(1))
    elif kind == "lock":
        folder = os.environ["RINGLAKE_TEST_PATH"]
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    else:
        raise ValueError(kind)


class WatchedLoader(BatchLoader):
    """The training's loader, which also records the batches that it delivers."""

    keys: Path | None = None
    fault = ""

    def __next__(self) -> LocalBatch:
        batch = super().__next__()
        if self.fault:
            kind, rank, position = self.fault.split("@")
            mark = Path(os.environ["RINGLAKE_TEST_ONCE"]) / self.fault
            if self.world.rank == int(rank) and batch.position >= int(position) and not mark.exists():
                mark.write_text(str(batch.position))
                print(f"rank {rank} suffers {kind} at {batch.position}", flush=True)
                suffer(kind)
        if self.keys is not None:
            with (self.keys / f"{os.getpid()}.jsonl").open("a") as file:
                entry = {
                    "position": batch.position,
                    "began": self.position,
                    "world": self.world.size,
                    "time": time.monotonic(),
                    "keys": [f"{first:016x}{second:016x}" for first, second in batch.keys.tolist()],
                }
                file.write(json.dumps(entry) + "\n")
        return batch


def train(self: Loop, stop_after: int | None = None) -> bool:
    """Train with watched loaders, but no others than those of the loop."""
    with patch.object(loading, "BatchLoader", WatchedLoader):
        return UNWATCHED(self, stop_after)


UNWATCHED = Loop.train

if __name__ == "__main__":
    if sys.argv[1]:
        WatchedLoader.keys = Path(sys.argv[1])
        WatchedLoader.keys.mkdir(parents=True, exist_ok=True)
    WatchedLoader.fault = sys.argv[2]
    with patch.object(Loop, "train", train):
        status = command.run(main, sys.argv[3:])
    sys.exit(status)
