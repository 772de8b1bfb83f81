"""Accuracy and time of private training: `python -m benchmarks.methods.private`.

Each cell is a training and an evaluation, or the times of steps, and stays in results/private.json.
Hyperparameters are the same in all cells of a data set, chosen on the validation split with ε = 3, which no ε covers.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.methods.cells import Kept, Row, row, stated
from common import command

KEPT = Kept("private")
BUDGETS = ("1", "3", "8", "inf")
"""ε of each cell; inf: the same training without clipping and noise."""
DELTA = 1e-5
FACTORS = "factors"
"""Name of the cell of times."""


@dataclass(frozen=True)
class Case:
    """Data set, and what its cells set in its configuration."""

    config: str
    settings: Mapping[str, str]
    worst_time: float
    """Claimed processor time of a private step, as a multiple of a plain one."""


CASES = {
    "digits": Case(
        "conf/digits.toml",
        {
            "model.channels": "[8, 16]",
            "model.dropout": "0",
            "augment.rotation": "0",
            "augment.shift": "0",
            "augment.crop": "0",
            "train.epochs": "4",
            "train.batch": "500",
            "optimizer.learning_rate": "2e-2",
            "optimizer.warm_up": "0",
        },
        4.2,
    ),
    "licences": Case(
        "conf/licences.toml",
        {
            "model.dropout": "0",
            "train.epochs": "1",
            "train.batch": "1024",
            "optimizer.learning_rate": "1e-2",
            "optimizer.warm_up": "0",
        },
        6.1,
    ),
}
"""Batches of a 20th of the rows or more, few epochs; times as tried in a first experiment on one core."""


def measure(case: Case, budget: str) -> dict[str, Any]:
    """Train and evaluate once; return the accuracy on the test split, its interval, and the section `privacy`."""
    private = [
        f"method.{key}" for key in ("kind=private", f"epsilon={budget}", f"delta={DELTA}", "clip_norm=1.0")
    ]
    given = [f"{key}={value}" for key, value in case.settings.items()] + (private if budget != "inf" else [])
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--config", case.config, "--run", "cell", "--set", f"train.runs={folder}"]
        flags += [part for one in [*given, "evaluate.baseline=false"] for part in ("--set", one)]
        for module in ("training.train", "training.evaluate"):
            subprocess.run([sys.executable, "-m", module, *flags], check=True, stdout=subprocess.DEVNULL)
        summary = json.loads((Path(folder) / "cell" / "summary.json").read_bytes())
        evaluation = json.loads((Path(folder) / "cell" / "evaluation.json").read_bytes())
    trained, model = summary["training"], evaluation["model"]
    return {
        "accuracy": model["figures"]["accuracy"],
        "interval": model["intervals"]["accuracy"],
        "privacy": trained.get("privacy"),
    }


def factors(case: Case, rows: int = 512, rounds: int = 5) -> list[float]:
    """Return the processor time of the clipped sum and its noise over so many rows, as a multiple of plain forward and
    backward, of each of several rounds in turn.
    """
    import torch

    from schemas.config import load
    from schemas.manifest import load_with_shards, newest
    from schemas.tables import Layout
    from training import models, objectives
    from training.input.batch_loader import BatchLoader
    from training.parallel.world import World
    from training.privacy.clipped_sums import ClippedSums
    from training.privacy.noise import KEY_BYTES, Noise

    config = load(case.config, [f"{key}={value}" for key, value in case.settings.items()])
    manifest = load_with_shards(newest(Layout.of(config).manifests, config.storage), config.storage, None)
    objective = objectives.build(config, manifest, torch.device("cpu"))
    torch.set_num_threads(1)
    model = models.build(config.model, models.features_of(objective.inputs, manifest), objective.outputs)
    with BatchLoader(manifest, "train", config.train, World(0, 1), batch=rows) as loader:
        batch = next(loader)
    sums, noise = ClippedSums(model, objective, 1.0), Noise(b"k" * KEY_BYTES, b"")

    def private() -> None:
        noise.add(sums.of(batch), 1.0, 0)

    def plain() -> None:
        model.zero_grad()
        objective.terms(model, batch).loss.sum().backward()  # type: ignore[no-untyped-call]

    def seconds(step: Callable[[], None]) -> float:
        began = time.process_time()
        step()
        return time.process_time() - began

    private()
    plain()
    return [seconds(private) / seconds(plain) for _ in range(rounds)]


CELLS = [f"{name}/{budget}" for name in CASES for budget in (*BUDGETS, FACTORS)]


def figures(cell: str) -> Any:
    """Return what was measured of a data set with a budget, or the times of its steps."""
    name, budget = cell.split("/")
    return factors(CASES[name]) if budget == FACTORS else measure(CASES[name], budget)


def rows() -> list[Row]:
    """Return the table of claims, from the cells measured so far."""
    table, found = list[Row](), KEPT.read()
    for cell in (one for one in CELLS if one in found):
        (name, budget), shown = cell.split("/"), f"{KEPT.command} --only {cell}"
        if budget == FACTORS:
            claim = f"processor time of a private step on {name}, as a multiple of a plain one, at most"
            table.append(row(claim, CASES[name].worst_time, found[cell], shown, at_least=False))
            continue
        told = "without privacy" if budget == "inf" else f"at ε = {budget}, δ = {DELTA:g}"
        accuracy, interval = found[cell]["accuracy"], found[cell]["interval"]
        table.append(stated(f"test accuracy on {name} {told}", None, accuracy, interval, None, shown))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the table; return the exit status."""
    return KEPT.main(argv, __doc__, CELLS, figures, rows)


if __name__ == "__main__":
    sys.exit(command.run(main))
