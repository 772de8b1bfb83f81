"""Epochs that pruning saves at an equal best value, on the digits: `python -m benchmarks.methods.tune`.

Each pair of studies has the same sampler and seed, and differs in the pruner alone; with the random sampler both
propose the same trials. Needs the published digits (`make etl CONF=conf/digits.toml`). Studies are kept below `runs`,
so that an interrupted comparison goes on where it was.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from common import command
from common.errors import CheckError
from training.tuning.page import epochs

CONF = Path("conf/digits.toml")
RUNS = Path("runs/bench-tune")
SEEDS = (0, 1, 2)
TRIALS, EPOCHS = 8, 9
SECTION = """
[tune]
trials = {trials}
reduction = 3
[tune.space]
"optimizer.learning_rate" = {{ low = 1e-5, high = 1e-1, log = true }}
"model.dropout" = {{ low = 0.0, high = 0.7 }}
"""
SMALL = ("model.channels=[8,16]", f"train.epochs={EPOCHS}", f'train.runs="{RUNS}"')
COMMAND = "python -m benchmarks.methods.tune"


def search(sampler: str, pruner: str, seed: int) -> optuna.Study:
    """Run a study to its end, or go on with it; return it. Raises CheckError where the search fails."""
    RUNS.mkdir(parents=True, exist_ok=True)
    conf = RUNS / "digits.toml"
    conf.write_text(CONF.read_text(encoding="utf-8") + SECTION.format(trials=TRIALS), encoding="utf-8")
    name = f"{sampler}-{pruner}-{seed}"
    sets = [*SMALL, f"tune.sampler={sampler}", f"tune.pruner={pruner}", f"tune.seed={seed}"]
    flags = [part for one in sets for part in ("--set", one)]
    done = subprocess.run(
        [sys.executable, "-m", "training.tune", "--config", str(conf), "--study", name, *flags],
        stdout=subprocess.DEVNULL,
    )
    if done.returncode:
        raise CheckError(f"the study {name} ended with the status {done.returncode}")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{RUNS / name / 'study.db'}")


def compared(sampler: str, seed: int) -> dict[str, Any]:
    """Return best values and epochs of two studies, without pruning and with it."""
    found: dict[str, Any] = {"seed": seed}
    for pruner in ("none", "halving"):
        study = search(sampler, pruner, seed)
        done, whole = epochs(study.trials)
        ended = sum(one.state is optuna.trial.TrialState.PRUNED for one in study.trials)
        found[pruner] = {"best": study.best_value, "epochs": done, "of": whole, "ended": ended}
    return found


def row(sampler: str, pairs: Sequence[dict[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the row of a claim: the mean saving over the seeds, and as the interval the smallest and the largest."""
    saved = [1 - pair["halving"]["epochs"] / pair["none"]["epochs"] for pair in pairs]
    lost = [pair["none"]["best"] - pair["halving"]["best"] for pair in pairs]
    told = "; ".join(
        f"seed {pair['seed']}: balanced accuracy {pair['halving']['best']:.4f} (without {pair['none']['best']:.4f}), "
        f"{pair['halving']['epochs']} of {pair['none']['epochs']} epochs, {pair['halving']['ended']} of {TRIALS} ended"
        for pair in pairs
    )
    return {
        "claim": f"search ({sampler}): successive halving saves epochs at an equal best validation value",
        "claimed": "fewer epochs, best value not lower",
        "measured": f"{100 * sum(saved) / len(saved):.0f}% of the epochs saved ({told})",
        "interval": [round(min(saved), 3), round(max(saved), 3)],
        "holds": min(saved) > 0 and max(lost) <= 0,
        "command": f"{COMMAND} --seeds {' '.join(map(str, seeds))}",
    }


def rows(seeds: Sequence[int] = SEEDS) -> list[dict[str, Any]]:
    """Return a row a sampler: claim, claimed, measured, interval, holds, command."""
    return [row(sampler, [compared(sampler, seed) for seed in seeds], seeds) for sampler in ("random", "tpe")]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rows as JSON; return the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the samplers (0 1 2)")
    parser.add_argument(
        "--again", action="store_true", help="remove the studies that there are, and begin anew"
    )
    arguments = parser.parse_args(argv)
    if arguments.again:
        shutil.rmtree(RUNS, ignore_errors=True)
    print(json.dumps(rows(arguments.seeds), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
