"""What local steps save and cost: `python -m benchmarks.methods.local_sgd`, after `make etl CONF=conf/digits.toml`.

Two ranks train the demo of digits, plainly and with averages of the weights every 1, 4 and 16 steps. Bytes are what a
rank gives to the ring for one epoch, computed from the model and the steps: 4 bytes a parameter for each exchange of
gradients or weights, and as many for each moment of the optimizer.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.methods.cells import Row, row, show
from common import command, files
from common.progress import log

FILE = Path(__file__).parents[1] / "results" / "local_sgd.json"
COMMAND = "python -m benchmarks.methods.local_sgd"
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


def measured() -> dict[str, list[dict[str, Any]]]:
    """Return the figures so far, by cell."""
    found: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_bytes()) if FILE.exists() else {}
    return found


def rows() -> list[Row]:
    """Return the table of claims."""
    found, table = measured(), list[Row]()
    for cell in CELLS:
        if not (figures := found.get(cell)):
            continue
        every, _, state = cell.partition("/")
        name = f"k = {every}, optimizer's state {state}" if state else "plain"
        accuracies = [one["accuracy"] for one in figures]
        table.append(row(f"accuracy on digits, 2 ranks, {name}", None, accuracies, COMMAND, at_least=True))
        size = sent(cell, figures[0]["steps"], figures[0]["parameters"])
        table.append(row(f"MB a rank sends in an epoch, {name}", None, [size], COMMAND, at_least=False))
        if state and (plain := found.get("plain")):
            lost = [one["accuracy"] - other for one, other in zip(plain, accuracies, strict=True)]
            table.append(row(f"accuracy that {name} costs", 0.01, lost, COMMAND, at_least=False))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.local_sgd", description=__doc__)
    parser.add_argument("--again", action="store_true", help="measure although there are figures")
    parser.add_argument("--only", nargs="*", choices=CELLS, default=CELLS, help="measure these cells alone")
    arguments = parser.parse_args(argv)
    found = {} if arguments.again else measured()
    for cell in arguments.only:
        if cell not in found:
            found[cell] = [trained(cell, seed) for seed in SEEDS]
            files.write(FILE, json.dumps(found, indent=1).encode() + b"\n")
            log(f"{cell}: {[one['accuracy'] for one in found[cell]]}")
    show(rows())
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
