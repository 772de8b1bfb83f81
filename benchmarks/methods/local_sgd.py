"""What local steps save and cost: `python -m benchmarks.methods.local_sgd`, after `make etl CONF=conf/digits.toml`.

Two ranks train the demo of digits, plainly and with averages of the weights every 1, 4 and 16 steps. Bytes are what a
rank gives to the ring for one epoch, computed from the model and the steps: 4 bytes a parameter for each exchange of
gradients or weights, and as many for each moment of the optimizer.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.methods.cells import Kept, Row, row
from common import command

KEPT = Kept("local_sgd")
EVERY, SEEDS, RANKS = (1, 4, 16), range(2), 2
EPOCHS = 4
CELLS = ("plain", *(f"{every}/average" for every in EVERY), "16/keep")
"""Plain training, or steps between two synchronisations and what becomes of the optimizer's state."""


def trained(cell: str, seed: int) -> dict[str, Any]:
    """Train and evaluate once; return the accuracy on the test split, and seconds, steps and parameters."""
    given = [f"train.epochs={EPOCHS}", f"train.seed={seed}", "evaluate.baseline=false"]
    if cell != "plain":
        every, state = cell.split("/")
        given += [
            "method.kind=local_sgd",
            f"method.synchronise_every={every}",
            f"method.optimizer_state={state}",
        ]
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--config", "conf/digits.toml", "--run", "cell", "--set", f"train.runs={folder}"]
        flags += [part for one in given for part in ("--set", one)]
        launcher = [str(Path(sys.executable).with_name("horovodrun")), "-np", str(RANKS), "--gloo"]
        place = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        launch = [*launcher, "-H", f"localhost:{RANKS}", sys.executable, "-m", "training.train", *flags]
        subprocess.run(launch, check=True, env=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        judge = [sys.executable, "-m", "training.evaluate", *flags]
        subprocess.run(judge, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        summary = json.loads((Path(folder) / "cell" / "summary.json").read_bytes())
        evaluation = json.loads((Path(folder) / "cell" / "evaluation.json").read_bytes())
        parameters = _parameters(summary["training"]["checkpoint"])
    return {
        "accuracy": evaluation["model"]["figures"]["accuracy"],
        "seconds": summary["training"]["seconds"],
        "steps": summary["training"]["steps"] // EPOCHS,
        "parameters": parameters,
    }


def _parameters(checkpoint: str) -> int:
    import torch

    state = torch.load(checkpoint, weights_only=True)["model"]
    return sum(value.numel() for name, value in state.items() if not name.endswith(("mean", "scale")))


def sent(cell: str, steps: int, parameters: int) -> float:
    """Return the megabytes that a rank sends in an epoch of so many steps, before the ring doubles them."""
    if cell == "plain":
        return steps * parameters * 4 / 1e6
    every, state = cell.split("/")
    return -(-steps // int(every)) * parameters * 4 * (3 if state == "average" else 1) / 1e6


def rows() -> list[Row]:
    """Return the table of claims."""
    found, table = KEPT.read(), list[Row]()
    for cell in CELLS:
        if not (figures := found.get(cell)):
            continue
        every, _, state = cell.partition("/")
        name = f"k = {every}, optimizer's state {state}" if state else "plain"
        accuracies = [one["accuracy"] for one in figures]
        table.append(
            row(f"accuracy on digits, 2 ranks, {name}", None, accuracies, KEPT.command, at_least=True)
        )
        size = sent(cell, figures[0]["steps"], figures[0]["parameters"])
        table.append(row(f"MB a rank sends in an epoch, {name}", None, [size], KEPT.command, at_least=False))
        if state and (plain := found.get("plain")):
            lost = [one["accuracy"] - other for one, other in zip(plain, accuracies, strict=True)]
            table.append(row(f"accuracy that {name} costs", 0.01, lost, KEPT.command, at_least=False))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing; return the exit status."""
    return KEPT.main(argv, __doc__, CELLS, lambda cell: [trained(cell, seed) for seed in SEEDS], rows)


if __name__ == "__main__":
    sys.exit(command.run(main))
