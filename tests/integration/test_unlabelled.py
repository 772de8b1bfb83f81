"""An objective without a label, with a third party's model, method and optimizer, on one rank and on two."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import extending
from tests.training.devices import FOR_TWO
from tests.training.published import Published
from tests.training.published_numbers import publish_numbers
from tests.training.runs import result, weights
from training.checkpoints.record import name_of
from training.tracking import metrics, summary

HOROVODRUN = Path(sys.executable).with_name("horovodrun")
SEVERAL = """
import json, sys
from common import command
from training import evaluate, report, train
for module, flags in json.loads(sys.argv[1]):
    assert command.run({"train": train, "evaluate": evaluate, "report": report}[module].main, flags) == 0
"""
"""Script that runs several commands in one process, because starting one takes seconds."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment with the kinds of docs/extending.md installed."""
    return extending.install(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_numbers(tmp_path_factory.mktemp("published"))


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def flags(published: Published, name: str, *more: str) -> list[str]:
    return ["--config", str(published.config), "--run", name, *more]


@pytest.fixture(scope="module")
def alone(published: Published, environment: dict[str, str]) -> str:
    """Train runs of one rank, evaluate and report them; return the output."""
    # Steps too small for float32: no validation is better than the first.
    early = (
        "--set",
        "train.patience=2",
        "--set",
        "train.epochs=30",
        "--set",
        "optimizer.learning_rate=1e-15",
    )
    commands: list[tuple[str, list[str]]] = [
        ("train", flags(published, "whole")),
        ("train", flags(published, "halves", "--stop-after", "14")),
        ("train", flags(published, "halves", "--resume")),
        ("train", flags(published, "passes", "--set", "train.accumulate=3")),
        ("train", flags(published, "early", *early)),
        ("evaluate", flags(published, "early")),
        ("evaluate", flags(published, "whole")),
        ("report", flags(published, "whole")),
    ]
    return run(environment, sys.executable, "-c", SEVERAL, json.dumps(commands))


def entries(published: Published, name: str, kind: str) -> list[dict[str, Any]]:
    return [e for e in metrics.read(published.root / "runs" / name) if e["kind"] == kind]


def test_a_model_learns_without_a_label(published: Published, alone: str) -> None:
    losses = [entry["loss"] for entry in entries(published, "whole", "validation")]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    # The numbers are standardised: the untrained model of `early` is off by more than 1.
    assert losses[-1] < 0.1
    assert all(entry["absolute_error"] > 0 for entry in entries(published, "whole", "validation"))


def test_a_resumed_run_equals_the_whole(published: Published, alone: str) -> None:
    for key in ("weights_sha256", "checkpoint_sha256", "steps"):
        assert result(published, "halves")[key] == result(published, "whole")[key]


def test_passes_add_up_to_one(published: Published, alone: str) -> None:
    several, once = weights(published, "passes"), weights(published, "whole")
    for name, tensor in once.items():
        torch.testing.assert_close(several[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_judges_figures_are_those_of_summary_and_report(published: Published, alone: str) -> None:
    folder = published.root / "runs" / "whole"
    section = summary.read(folder)["evaluation"]
    assert set(section["figures"]) == {"squared_error", "absolute_error"}
    assert (section["objective"], section["split"], section["rows"]) == ("copying", "test", 20)
    assert section["baselines"] == {}
    assert f"squared_error   {section['figures']['squared_error']:>8.3f}" in alone
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "Test split" in html
    assert f"{section['figures']['squared_error']:.3f}" in html
    assert "Absolute error on the validation split" in html
    assert "Class balance" not in html
    assert "Confusion" not in html


def test_training_stops_early_and_the_best_checkpoint_is_judged(published: Published, alone: str) -> None:
    folder = published.root / "runs" / "early"
    losses = [entry["loss"] for entry in entries(published, "early", "validation")]
    assert losses == [losses[0]] * 3
    trained = summary.read(folder)["training"]
    assert trained["stopped_early"]
    assert (trained["steps"], trained["best_step"]) == (33, 11)
    assert trained["best_validation"] == {"loss": losses[0]}
    assert summary.read(folder)["evaluation"]["checkpoint"] == f"{name_of(trained['best_step'])}.pt"
    assert trained["checkpoint"] != trained["best_checkpoint"]


@pytest.mark.thorough  # test_training.py does the same with labels
def test_two_ranks_learn_what_one_learns_with_a_resume(
    published: Published, alone: str, environment: dict[str, str], tmp_path: Path
) -> None:
    launch = [str(HOROVODRUN), "-np", "2", "--gloo", "-H", "localhost:2", sys.executable, "-c", SEVERAL]
    commands = [
        ("train", flags(published, "two", "--stop-after", "14")),
        ("train", flags(published, "two", "--resume")),
    ]
    path = {"PATH": f"{HOROVODRUN.parent}:{environment['PATH']}", "HOROVOD_CYCLE_TIME": "1"}
    for command in commands:
        run({**environment, **path, **FOR_TWO}, *launch, json.dumps([command]))
    assert result(published, "two")["world_size"] == 2
    together, single = weights(published, "two"), weights(published, "whole")
    for name, tensor in single.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-4, atol=1e-5)
