"""Memory and time of a training step by precision, activation checkpointing and accumulation:
`python -m benchmarks.methods.memory`, or `make bench-memory`.

Each case runs in processes of its own, in alternation with the others, on generated texts of 32 to 128 tokens: a
transformer of 6 layers × 256 and batches of 64 rows, one thread on a CPU, or a GPU where there is one. What is kept for
backward is counted by hooks on saved tensors, each storage once and without the parameters; the peak is that of the
process over its size before the first step (on a GPU that of its allocator). Times are medians of the steps after the
first; intervals go from the least to the most of the rounds.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.methods.cells import RESULTS, Row, row, show
from common import command, files
from common.progress import log
from schemas.manifest import FIXED, Column
from schemas.methods.plain import Plain as Settings
from schemas.models.transformer_classifier import TransformerClassifier
from schemas.optimizers.adamw import AdamW
from schemas.settings import Train
from training import methods, models
from training.input.batch_loader import LocalBatch
from training.methods.plain import Plain
from training.objectives import Terms
from training.objectives.classification import Classification
from training.parallel.communicator import Communicator, make_deterministic

FILE = RESULTS / "memory.json"
COMMAND = "make bench-memory"
ROWS, LENGTH, SHORTEST, VOCABULARY, CLASSES = 64, 128, 32, 8192, 9
STEPS, ROUNDS = 4, 3
CASES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "checkpoint": {"checkpoint_layers": True},
    "accumulate 4": {"accumulate": 4},
    "bf16, checkpoint": {"precision": "bf16", "checkpoint_layers": True},
    "bf16, checkpoint, accumulate 4": {"precision": "bf16", "checkpoint_layers": True, "accumulate": 4},
}
GPU_ONLY = ("fp16",)
"""A CPU without arithmetic in fp16 takes minutes for a step."""


class Counted(Plain):
    """Plain training that counts what a forward pass keeps for backward."""

    kept = 0
    """Bytes, the most of any part of a batch."""

    def terms(self, batch: LocalBatch, step: int) -> Terms:
        own = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found = super().terms(batch, step)
        self.kept = max(self.kept, sum(sizes.values()))
        return found


class Classes(Classification):
    """Objective without a data set."""

    def __init__(self) -> None:
        self.class_weights, self.weighted = None, False
        self.outputs = {"logits": CLASSES}
        self.portions = {"train": torch.ones(CLASSES)}


def a_batch(step: int, device: torch.device) -> LocalBatch:
    """Generate the rows of a step: token ids (ROWS, LENGTH) with padding on the right."""
    random = np.random.default_rng(step)
    tokens = random.integers(1, VOCABULARY, (ROWS, LENGTH), dtype=np.int32)
    tokens[np.arange(LENGTH) >= random.integers(SHORTEST, LENGTH + 1, (ROWS, 1))] = 0
    labels = torch.from_numpy(random.integers(0, CLASSES, ROWS))
    keys = np.zeros((ROWS, 2), dtype=np.uint64)
    batch = LocalBatch(
        {"text": torch.from_numpy(tokens)}, labels, keys, None, ROWS, ROWS, 0, ROWS * (step + 1)
    )
    return batch.to(device)


def one(case: str) -> dict[str, float]:
    """Train a few steps in this process; return bytes, seconds a step and the last loss."""
    make_deterministic(1)
    settings = dict(CASES[case])
    checkpointed = settings.pop("checkpoint_layers", False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    communicator = Communicator.start()
    torch.manual_seed(0)
    column = Column(
        name="text", role="feature", dtype="int32", shape=[LENGTH], storage=FIXED, vocabulary=VOCABULARY
    )
    shape = TransformerClassifier(layers=6, width=256, heads=4, checkpoint_layers=checkpointed)
    model = models.build(shape, [column], {"logits": CLASSES}).to(device)
    method = Counted(
        methods.MethodContext(
            model,
            Classes(),
            Settings(),
            AdamW(),
            Train.model_validate(settings),
            communicator,
            device,
            STEPS,
        )
    )
    before, times, loss = peak(device), [], 0.0
    for step in range(STEPS):
        batch = a_batch(step, device)
        began = time.perf_counter()
        loss = float(method.step(batch, step).loss_sum) / ROWS
        times.append(time.perf_counter() - began)
    communicator.stop()
    return {
        "kept": method.kept,
        "peak": peak(device) - before,
        "seconds": median(times[1:]),
        "loss": loss,
    }


def peak(device: torch.device) -> int:
    """Return the most bytes held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(cases: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Run all cases in turn, ROUNDS times; return the figures by case and name."""
    found: dict[str, dict[str, list[float]]] = {case: {} for case in cases}
    for number in range(ROUNDS):
        for case in cases:
            done = subprocess.run(
                [sys.executable, "-m", __spec__.name, "--one", case],
                check=True,
                capture_output=True,
                text=True,
            )
            figures = json.loads(done.stdout.splitlines()[-1])
            for name, value in figures.items():
                found[case].setdefault(name, []).append(value)
            log(f"round {number + 1}/{ROUNDS}, {case}: {figures['seconds']:.2f} s a step")
    return found


def rows() -> list[Row]:
    """Return the table of claims, from what was measured last."""
    if not FILE.exists():
        return []
    found = json.loads(FILE.read_bytes())
    place, cells = found["device"], found["cases"]
    table = []
    for case in cells:
        if case == "fp32":
            continue
        for name, what in (("kept", "bytes kept for backward"), ("peak", "peak memory")):
            saved = [
                1 - mine / base for mine, base in zip(cells[case][name], cells["fp32"][name], strict=True)
            ]
            table.append(
                row(f"{what}, {case} against fp32 ({place}): saved", 0.5, saved, COMMAND, at_least=True)
            )
        speed = [
            base / mine for mine, base in zip(cells[case]["seconds"], cells["fp32"]["seconds"], strict=True)
        ]
        # The claim of speed is made for half precision.
        claimed = 2.0 if "16" in case else None
        table.append(row(f"speed, {case} against fp32 ({place})", claimed, speed, COMMAND, at_least=True))
    return table


def lines(cells: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the figures as aligned text, a case a line."""
    shown = [f"{'case':<32}{'kept, MiB':>12}{'peak, MiB':>12}{'s a step':>10}{'last loss':>12}"]
    for case, one_of in cells.items():
        kept, held, seconds, loss = (median(one_of[name]) for name in ("kept", "peak", "seconds", "loss"))
        shown.append(f"{case:<32}{kept / 2**20:>12,.1f}{held / 2**20:>12,.1f}{seconds:>10.3f}{loss:>12.5f}")
    return "\n".join(shown)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the tables; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.methods.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--one", choices=list(CASES), help="a single case, in this process")
    parser.add_argument("--again", action="store_true", help="measure although there are figures")
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(one(arguments.one)))
        return 0
    if arguments.again or not FILE.exists():
        gpu = torch.cuda.is_available()
        place = torch.cuda.get_device_name() if gpu else "CPU"
        cells = measure([case for case in CASES if gpu or case not in GPU_ONLY])
        files.write(FILE, json.dumps({"device": place, "cases": cells}, indent=1).encode() + b"\n")
    print(lines(json.loads(FILE.read_bytes())["cases"]))
    show(rows())
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
