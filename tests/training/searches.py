"""Searches for tests: configurations with `[tune]`, and processes that search with stand-ins for trainings."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from common import json_lines
from tests.training.published import Published, publish
from training.tuning import trials

FAKE = [sys.executable, str(Path(__file__).with_name("fake_training.py"))]
CHECKOUT = Path(__file__).parents[2]
PROCESS = f"""
import sys
from common import command
from training import tune
from training.tuning import trials
trials.TRAINER, trials.POLL = {FAKE!r}, 0.02
sys.exit(command.run(tune.main))
"""


def searched(root: Path, section: str, epochs: int = 3) -> Published:
    """Publish a small data set whose configuration has a section `[tune]`."""
    published = publish(root, train=((32, 32),))
    text = published.config.read_text().replace("epochs = 2", f"epochs = {epochs}")
    published.config.write_text(f"{text}\n[tune]\n{section}")
    return published


def fake(patch: pytest.MonkeyPatch) -> None:
    """Let searches of this process start stand-ins."""
    patch.setattr(trials, "TRAINER", FAKE)
    patch.setattr(trials, "POLL", 0.02)
    patch.setenv("PYTHONPATH", str(CHECKOUT))


def flags(published: Published, *more: str, study: str = "s") -> list[str]:
    """Return the command line of a search."""
    return ["--config", str(published.config), "--study", study, *more]


def process(published: Published, *more: str) -> "subprocess.Popen[str]":
    """Start a search with stand-ins in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, *flags(published, *more)],
        cwd=published.root,
        env={"PYTHONPATH": str(CHECKOUT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def calls(published: Published) -> list[dict[str, Any]]:
    """Return what stand-ins were called with, in the order of their starts."""
    return [json.loads(line) for line in json_lines.lines(str(published.root / "runs" / "calls.jsonl"))]


def trials_of(published: Published, study: str = "s") -> list[optuna.trial.FrozenTrial]:
    """Return the trials of a study by number."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{published.root / 'runs' / study / 'study.db'}")
    try:
        return optuna.load_study(study_name=study, storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def states(found: Sequence[optuna.trial.FrozenTrial]) -> list[str]:
    """Return how trials ended."""
    return [one.state.name for one in found]
