"""Accuracy and time of private training: `python -m benchmarks.methods.private`.

Each cell is a training and an evaluation, and stays in results/private.json: it is measured once, unless --again.
Hyperparameters are the same in all cells of a data set, chosen on the validation split with ε = 3, which no ε covers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.methods.cells import row
from common import command, files
from common.progress import log

FILE = Path(__file__).parents[1] / "results" / "private.json"
COMMAND = "python -m benchmarks.methods.private --only {} --budgets {}"
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


def measured(only: Sequence[str], budgets: Sequence[str], again: bool) -> dict[str, Any]:
    """Measure the cells that are missing, write each as soon as it is there, and return all."""
    found: dict[str, Any] = json.loads(FILE.read_bytes()) if FILE.exists() else {}
    for name in only:
        found.setdefault(name, {})
        for budget in budgets:
            if again or budget not in found[name]:
                found[name][budget] = measure(CASES[name], budget)
                log(f"{name}, ε = {budget}: {found[name][budget]['accuracy']:.3f}")
                files.write(FILE, json.dumps(found, indent=1).encode() + b"\n")
        if again or FACTORS not in found[name]:
            found[name][FACTORS] = factors(CASES[name])
            files.write(FILE, json.dumps(found, indent=1).encode() + b"\n")
    return found


def rows() -> list[dict[str, Any]]:
    """Return the table of claims, from the cells measured so far."""
    table: list[dict[str, Any]] = []
    for name, cells in measured([], [], False).items():
        for budget in (one for one in BUDGETS if one in cells):
            told = "without privacy" if budget == "inf" else f"at ε = {budget}, δ = {DELTA:g}"
            cell = cells[budget]
            table.append(
                {
                    "claim": f"test accuracy on {name} {told}",
                    "claimed": None,
                    "measured": round(cell["accuracy"], 4),
                    "interval": cell["interval"],
                    "holds": None,
                    "command": COMMAND.format(name, budget),
                }
            )
        if FACTORS not in cells:
            continue
        claim = f"processor time of a private step on {name}, as a multiple of a plain one, at most"
        table.append(
            dict(
                row(
                    claim, CASES[name].worst_time, cells[FACTORS], COMMAND.format(name, "inf"), at_least=False
                )
            )
        )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.methods.private",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--again", action="store_true", help="measure cells that are there as well")
    arguments = parser.parse_args(argv)
    measured(arguments.only, arguments.budgets, arguments.again)
    for one in rows():
        print(json.dumps(one, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
