"""Accuracy and time of private training: `python -m benchmarks.methods.private`.

Each cell is a training and an evaluation, and stays in results/private.json: it is measured once, unless --again.
Hyperparameters are the same in all cells of a data set, chosen on the validation split with ε = 3, which no ε covers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import command, files
from common.progress import log

FILE = Path(__file__).parents[1] / "results" / "private.json"
COMMAND = "python -m benchmarks.methods.private --only {} --budgets {}"
BUDGETS = ("1", "3", "8", "inf")
"""ε of each cell; inf: the same training without clipping and noise."""
DELTA = 1e-5


@dataclass(frozen=True)
class Case:
    """Data set, and what its cells set in its configuration."""

    config: str
    settings: Mapping[str, str]
    worst_time: float
    """Claimed factor of a step's time over plain training."""


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
    """Train and evaluate once; return the accuracy on the test split, its interval, and seconds a step."""
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
        "seconds_a_step": trained["seconds"] / trained["steps"],
        "privacy": trained.get("privacy"),
    }


def measured(only: Sequence[str], budgets: Sequence[str], again: bool) -> dict[str, dict[str, Any]]:
    """Measure the cells that are missing, write each as soon as it is there, and return all."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_bytes()) if FILE.exists() else {}
    for name in only:
        for budget in budgets:
            if again or budget not in found.setdefault(name, {}):
                found[name][budget] = measure(CASES[name], budget)
                log(f"{name}, ε = {budget}: {found[name][budget]['accuracy']:.3f}")
                files.write(FILE, json.dumps(found, indent=1).encode() + b"\n")
    return found


def rows() -> list[dict[str, Any]]:
    """Return the table of claims, from the cells measured so far."""
    table = []
    for name, cells in measured([], [], False).items():
        for budget, cell in cells.items():
            told = "without privacy" if budget == "inf" else f"at ε = {budget}, δ = {DELTA:g}"
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
        private = [cell["seconds_a_step"] for budget, cell in cells.items() if budget != "inf"]
        if private and "inf" in cells:
            factor, claimed = min(private) / cells["inf"]["seconds_a_step"], CASES[name].worst_time
            table.append(
                {
                    "claim": f"time of a private step on {name}, as a multiple of a plain one, is at most",
                    "claimed": claimed,
                    "measured": round(factor, 2),
                    "interval": None,
                    "holds": factor <= claimed,
                    "command": COMMAND.format(name, " ".join(BUDGETS)),
                }
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
    for row in rows():
        print(json.dumps(row, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
