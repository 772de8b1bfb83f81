"""Standard against adversarial training on the digits, ε 0.1 and 0.2: `python -m benchmarks.methods.adversarial`.

Needs the digits published (`make etl CONF=conf/digits.toml`). Trains and evaluates each cell that
`benchmarks/results/adversarial.json` does not have yet.
"""

import functools
import json
import math
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.methods.cells import Kept, Row, stated
from common import command

ROOT = Path(__file__).resolve().parents[2]
KEPT = Kept("adversarial")
CONFIG = ROOT / "conf" / "digits.toml"
EPOCHS = 8
CELLS: dict[str, dict[str, object]] = {
    "0.1/standard": {},
    "0.1/fgsm": {"method.attack": "fgsm"},
    "0.2/standard": {},
    "0.2/fgsm at once": {"method.attack": "fgsm", "method.ramp": 0},
    "0.2/fgsm": {"method.attack": "fgsm"},
    "0.2/pgd": {"method.attack": "pgd", "method.steps": 5},
}
"""Settings by ε and training; those without any are trained on the rows as they are."""
TOLD = {"clean": "without attack", "fgsm": "under FGSM", "pgd": "under PGD-20"}
_row = functools.partial(stated, command=KEPT.command)
LEAST_GAIN = 0.3
"""Robust accuracy that is said to be gained: 30 to 50 points."""
FACTOR = 2.0
"""Cost of single-step adversarial training, as the paper has it: one more forward and backward pass."""


def figures(name: str) -> dict[str, Any]:
    """Train and evaluate a cell; return its figures with and without attacks."""
    run = f"bench-adversarial-{name.replace('/', '-').replace(' ', '-')}"
    epsilon, of_method = name.split("/")[0], CELLS[name]
    settings: dict[str, object] = {
        "train.epochs": EPOCHS,
        "evaluate.baseline": "false",
        "evaluate.attack_epsilon": epsilon,
    }
    if of_method:
        settings |= {"method.kind": "adversarial", "method.epsilon": epsilon, **of_method}
    given = ["--config", str(CONFIG), "--run", run]
    given += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    before = _cpu()
    subprocess.run([sys.executable, "-m", "training.train", *given, "--again"], cwd=ROOT, check=True)
    seconds = _cpu() - before
    subprocess.run([sys.executable, "-m", "training.evaluate", *given], cwd=ROOT, check=True)
    summary = json.loads((ROOT / "runs" / run / "summary.json").read_bytes())
    evaluation = json.loads((ROOT / "runs" / run / "evaluation.json").read_bytes())["attacks"]
    return {
        "manifest_root": summary["dataset"]["manifest_root"],
        "epochs": EPOCHS,
        "rows": evaluation["rows"],
        "cpu_seconds": round(seconds, 1),
        **{
            attack: {key: evaluation[attack][key] for key in ("accuracy", "interval")}
            for attack in ("clean", "fgsm", "pgd")
        },
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def difference(first: dict[str, Any], second: dict[str, Any]) -> tuple[float, list[float]]:
    """Return by how much the first accuracy is higher, and its interval from the two Wilson intervals.

    Newcombe, *Statistics in Medicine* 17, 1998, method 10; the rows are the same, which it does not use.
    """
    gain = first["accuracy"] - second["accuracy"]
    (low, high), (other_low, other_high) = first["interval"], second["interval"]
    below = math.hypot(first["accuracy"] - low, other_high - second["accuracy"])
    above = math.hypot(high - first["accuracy"], second["accuracy"] - other_low)
    return gain, [gain - below, gain + above]


def rows() -> list[Row]:
    """Return each claim with what was measured, over the cells that are kept."""
    measured = KEPT.read()
    table = []
    for name, cell in measured.items():
        epsilon, training = name.split("/")
        for attack, told in TOLD.items():
            claim = f"accuracy on {cell['rows']} digits, {training} training, {told}, ε = {epsilon}"
            table.append(_row(claim, None, cell[attack]["accuracy"], cell[attack]["interval"], None))
    for name, cell in measured.items():
        epsilon, training = name.split("/")
        standard = measured.get(f"{epsilon}/standard")
        if standard is not None and cell is not standard:
            table += _compared(f"{training} training, ε = {epsilon}", cell, standard)
    return table


def _compared(words: str, cell: dict[str, Any], standard: dict[str, Any]) -> list[Row]:
    """Return what an adversarial training gains and costs beside the standard one."""
    gain, ends = difference(cell["pgd"], standard["pgd"])
    change, ends_of_change = difference(cell["clean"], standard["clean"])
    ratio = cell["cpu_seconds"] / standard["cpu_seconds"]
    return [
        _row(
            f"gain under PGD-20 by {words}, at least",
            LEAST_GAIN,
            gain,
            ends,
            ends[0] >= LEAST_GAIN,
        ),
        _row(
            f"clean accuracy of {words}, less the standard one's",
            0.0,
            change,
            ends_of_change,
            ends_of_change[1] >= 0,
        ),
        _row(
            f"CPU time of {words}, validation under attack included, as a multiple, at most",
            FACTOR,
            ratio,
            None,
            ratio <= FACTOR,
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and print the claims; return the exit status."""
    return KEPT.main(argv, __doc__, list(CELLS), figures, rows)


if __name__ == "__main__":
    sys.exit(command.run(main))
