"""Standard against adversarial training on the digits, ε 0.1: `python -m benchmarks.methods.adversarial`.

Needs the digits published (`make etl CONF=conf/digits.toml`). Trains and evaluates each cell that
`benchmarks/results/methods/adversarial.json` does not have yet; `--again` measures all anew, `--cell` one alone.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.wording import rounded

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "methods" / "adversarial.json"
CONFIG = ROOT / "conf" / "digits.toml"
COMMAND = "python -m benchmarks.methods.adversarial"
EPSILON, EPOCHS = 0.1, 8
CELLS = {
    "standard": {},
    "adversarial": {"method.kind": "adversarial", "method.epsilon": EPSILON},
}
POINTS = (0.3, 0.5)
"""Robust accuracy that is said to be gained."""
FACTOR = 2.0
"""Cost of single-step adversarial training, as the paper has it: one more forward and backward pass."""


def cells(names: Sequence[str] = (), again: bool = False) -> dict[str, dict[str, Any]]:
    """Return the figures of each cell, measured where they are not yet known, or where told `again`."""
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
    for name in names or CELLS:
        if again or name not in found:
            found[name] = _measured(name)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _measured(name: str) -> dict[str, Any]:
    run = f"bench-adversarial-{name}"
    settings = {"train.epochs": EPOCHS, "evaluate.baseline": "false", "evaluate.attack_epsilon": EPSILON}
    settings |= CELLS[name]
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


def rows(found: dict[str, dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return each claim with what was measured."""
    measured = cells() if found is None else found
    standard, adversarial = measured["standard"], measured["adversarial"]
    gain, ends = difference(adversarial["pgd"], standard["pgd"])
    change, ends_of_change = difference(adversarial["clean"], standard["clean"])
    ratio = adversarial["cpu_seconds"] / standard["cpu_seconds"]
    under = f"{standard['pgd']['accuracy']:.3f} → {adversarial['pgd']['accuracy']:.3f}"
    weakest = all(one["pgd"]["accuracy"] <= one["fgsm"]["accuracy"] for one in (standard, adversarial))
    return [
        _row(
            f"robust accuracy of adversarial training, digits, PGD-20 at ε {EPSILON}",
            f"+{100 * POINTS[0]:.0f} to +{100 * POINTS[1]:.0f} points",
            f"{100 * gain:+.1f} points ({under})",
            [round(100 * end, 1) for end in ends],
            ends[0] >= POINTS[0],
        ),
        _row(
            "the same costs no clean accuracy",
            "0 points",
            f"{100 * change:+.1f} points",
            [round(100 * end, 1) for end in ends_of_change],
            ends_of_change[1] >= 0,
        ),
        _row(
            "the same costs twice the compute (CPU time of the training, validation under attack included)",
            f"{FACTOR:g}×",
            f"{ratio:.1f}×",
            None,
            ratio <= FACTOR,
        ),
        _row(
            "PGD is never weaker than FGSM",
            "at most FGSM's accuracy",
            ", ".join(
                f"{name}: {rounded(one['pgd']['accuracy'])} ≤ {rounded(one['fgsm']['accuracy'])}"
                for name, one in (("standard", standard), ("adversarial", adversarial))
            ),
            None,
            weakest,
        ),
    ]


def _row(
    claim: str, claimed: str, measured: str, interval: list[float] | None, holds: bool
) -> dict[str, Any]:
    return {
        "claim": claim,
        "claimed": claimed,
        "measured": measured,
        "interval": interval,
        "holds": holds,
        "command": COMMAND,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and print the claims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=sorted(CELLS), action="append", default=[])
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args(argv)
    found = cells(arguments.cell, arguments.again)
    if set(CELLS) <= set(found):
        for row in rows(found):
            ends = "" if row["interval"] is None else f", 95% {row['interval'][0]} to {row['interval'][1]}"
            print(f"{row['claim']}: {row['measured']}{ends} (claimed {row['claimed']}: {row['holds']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
