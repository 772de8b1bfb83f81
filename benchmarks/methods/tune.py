"""Epochs that pruning saves at an equal best value, on the digits: `python -m benchmarks.methods.tune`.

Each pair of studies has the same seed and the random sampler, so that both propose the same trials, and differs in the
pruner alone. TPE draws its first ten trials at random: eight of its trials would be the same again. Needs the published
digits (`make etl CONF=conf/digits.toml`). Until they are compared, studies lie below `runs`, so that an interrupted
comparison goes on where it was.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from benchmarks.methods.cells import Kept, Row, row
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
KEPT = Kept("tune")
CELLS = [f"seed {seed}" for seed in SEEDS]


def search(pruner: str, seed: int) -> optuna.Study:
    """Run a study to its end, or go on with it; return it. Raises CheckError where the search fails."""
    RUNS.mkdir(parents=True, exist_ok=True)
    conf = RUNS / "digits.toml"
    conf.write_text(CONF.read_text(encoding="utf-8") + SECTION.format(trials=TRIALS), encoding="utf-8")
    name = f"{pruner}-{seed}"
    sets = [*SMALL, "tune.sampler=random", f"tune.pruner={pruner}", f"tune.seed={seed}"]
    flags = [part for one in sets for part in ("--set", one)]
    done = subprocess.run(
        [sys.executable, "-m", "training.tune", "--config", str(conf), "--study", name, *flags],
        stdout=subprocess.DEVNULL,
    )
    if done.returncode:
        raise CheckError(f"the study {name} ended with the status {done.returncode}")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{RUNS / name / 'study.db'}")


def compared(cell: str) -> dict[str, Any]:
    """Return best values and epochs of two studies, without pruning and with it."""
    seed = int(cell.removeprefix("seed "))
    found: dict[str, Any] = {}
    for pruner in ("none", "halving"):
        study = search(pruner, seed)
        done, whole = epochs(study.trials)
        ended = sum(one.state is optuna.trial.TrialState.PRUNED for one in study.trials)
        found[pruner] = {"best": study.best_value, "epochs": done, "of": whole, "ended": ended}
    for folder in (folder for pruner in found for folder in RUNS.glob(f"{pruner}-{seed}*")):
        shutil.rmtree(folder)  # so that a comparison made again begins anew
    return found


def rows() -> list[Row]:
    """Return what pruning saves and costs; it holds where each study saves epochs and none loses its best value."""
    pairs = list(KEPT.read().values())
    if not pairs:
        return []
    saved = [1 - pair["halving"]["epochs"] / pair["none"]["epochs"] for pair in pairs]
    lost = [pair["none"]["best"] - pair["halving"]["best"] for pair in pairs]
    ended = sum(pair["halving"]["ended"] for pair in pairs)
    claim = f"epochs that successive halving saves at an equal best validation value ({ended} of "
    claim += f"{TRIALS * len(pairs)} trials ended early): share, above"
    first = row(claim, 0.0, saved, KEPT.command, at_least=True)
    holds = min(saved) > 0 and max(lost) <= 0
    cost = row("balanced accuracy that it costs", None, lost, KEPT.command, at_least=False)
    return [Row(**{**first, "holds": holds}), cost]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing; return the exit status."""
    return KEPT.main(argv, __doc__, CELLS, compared, rows)


if __name__ == "__main__":
    sys.exit(command.run(main))
