"""Starts, second starts and stops of a training: what is begun, gone on with, refused, and kept."""

import os
import shutil
import signal
import threading
from typing import Any

import horovod.torch as hvd
import pytest

from common.errors import UsageError
from common.lock import held
from tests.training.published import Published, publish
from tests.training.test_train import folder, train, training
from training.checkpoints import store
from training.engine import preparation, running
from training.methods import plain
from training.parallel import horovod_backend
from training.tracking import summary
from training.tracking.run_files import LOCK_FILE


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def whole(published: Published) -> str:
    """Train a run from beginning to end; return its name."""
    assert train(published, "whole") == 0
    return "whole"


def test_resume_never_deletes_what_it_cannot_read(published: Published) -> None:
    assert train(published, "unreadable", "--stop-after", "5") == 0
    checkpoints = folder(published, "unreadable") / "checkpoints"
    (checkpoints / "step-00000005.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="no checkpoint of the run 'unreadable' is good"):
        train(published, "unreadable", "--resume")
    assert (checkpoints / "step-00000005.pt").exists()


def test_a_run_that_is_not_there_begins_only_when_told_so(
    published: Published, whole: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        UsageError, match=r"there is no run 'nothing' in .*/runs to go on from: .*--resume=auto"
    ):
        train(published, "nothing", "--resume")
    assert not folder(published, "nothing").exists()
    assert train(published, "nothing", "--resume=auto", "--stop-after", "3") == 0
    assert "has no checkpoint to go on from; it begins" in capsys.readouterr().err
    assert train(published, "nothing", "--resume=auto") == 0
    assert "from step 3 on" in capsys.readouterr().err
    assert training(published, "nothing")["weights_sha256"] == training(published, whole)["weights_sha256"]


def test_a_run_that_was_killed_before_its_first_checkpoint_begins(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(published, "early", "--stop-after", "3") == 0
    checkpoints = folder(published, "early") / "checkpoints"
    for name in ("chain.jsonl", "step-00000003.json"):
        (checkpoints / name).unlink()
    # A report was made of it meanwhile.
    summary.update(folder(published, "early"), reports={"run": "report.html"})
    assert train(published, "early", "--resume", "--stop-after", "2") == 0
    assert "has no checkpoint to go on from; it begins" in capsys.readouterr().err
    assert store.steps_of(folder(published, "early")) == [2]


def test_resume_of_a_finished_run_ends_at_once(
    published: Published, whole: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder(published, whole) / "summary.json").read_bytes()
    monkeypatch.setattr(preparation, "verify_files", lambda *_: pytest.fail("the shards were verified"))
    assert train(published, whole, "--resume") == 0
    assert "finished already" in capsys.readouterr().err
    assert (folder(published, whole) / "summary.json").read_bytes() == before


def test_a_run_is_not_overwritten(published: Published, whole: str) -> None:
    before = {path: path.read_bytes() for path in folder(published, whole).rglob("*") if path.is_file()}
    for flags in ([], ["--check"]):
        with pytest.raises(
            UsageError, match=r"was trained before, .*whole holds its checkpoints: go on with --res"
        ):
            train(published, whole, *flags)
    assert {path: path.read_bytes() for path in before} == before
    # Someone has made room by hand: what is left is the result.
    (folder(published, "results")).mkdir()
    shutil.copy(folder(published, whole) / "summary.json", folder(published, "results"))
    for flags in ([], ["--resume=auto"]):
        with pytest.raises(UsageError, match=r"results holds its summary.json but no checkpoints: put these"):
            train(published, "results", *flags)
    with pytest.raises(UsageError, match="--again begins anew, --resume goes on"):
        train(published, whole, "--again", "--resume")


def test_a_second_training_of_a_run_is_told_of_the_first(published: Published) -> None:
    run = folder(published, "shared")
    told = rf"another training is writing the run 'shared' .process {os.getpid()} of .*since 20.*; wait for its end"
    with held(str(run / LOCK_FILE), "taken"):
        for flags in ([], ["--resume=auto"], ["--again"], ["--check"]):
            with pytest.raises(UsageError, match=told):
                train(published, "shared", *flags)
    assert list(run.iterdir()) == []
    assert train(published, "shared", "--stop-after", "1") == 0
    assert not (run / LOCK_FILE).exists()


def test_a_fresh_start_removes_what_was_there_once_it_is_valid(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(published, "twice", "--stop-after", "5") == 0
    with pytest.raises(UsageError):
        train(published, "twice", "--again", "--set", "train.read_memory=10")
    assert len(list((folder(published, "twice") / "checkpoints").glob("step-*"))) == 2
    assert train(published, "twice", "--again", "--stop-after", "6") == 0
    assert "starts afresh: its earlier checkpoints and results are removed" in capsys.readouterr().err
    files = sorted(path.name for path in (folder(published, "twice") / "checkpoints").iterdir())
    assert files == [
        "chain.jsonl",
        "step-00000005.json",
        "step-00000005.pt",
        "step-00000006.json",
        "step-00000006.pt",
    ]


def signalled(monkeypatch: pytest.MonkeyPatch, at: int, *numbers: signal.Signals) -> None:
    """Send this process signals in its step `at`, counted from 1."""
    real = plain.Plain.step

    def step(method: Any, batch: Any, number: int, *rest: Any) -> Any:
        if number == at - 1:
            for one in numbers:
                os.kill(os.getpid(), one)
        return real(method, batch, number, *rest)

    monkeypatch.setattr(plain.Plain, "step", step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_lets_the_training_write_a_checkpoint_and_go_on_later(
    published: Published,
    whole: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    signalled(monkeypatch, 7, number, signal.SIGUSR1)
    assert train(published, f"stopped-{number}") == 75
    assert signal.getsignal(number) == before
    shown = capfd.readouterr().err
    assert f"{number.name}: the training ends after this step, with a checkpoint, or 25 s from now" in shown
    step = store.steps_of(folder(published, f"stopped-{number}"))[-1]
    assert step in (7, 8)
    assert shown.endswith(
        f"stopped by {number.name} after step {step}, whose checkpoint is written: --resume goes on from there "
        "(status 75)\n"
    )
    assert not (folder(published, f"stopped-{number}") / "summary.json").exists()
    monkeypatch.undo()
    assert train(published, f"stopped-{number}", "--resume") == 0
    for key in ("weights_sha256", "checkpoint_sha256", "samples_seen", "steps"):
        assert training(published, f"stopped-{number}")[key] == training(published, whole)[key]


def test_a_signal_in_the_last_step_changes_nothing(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, 22, signal.SIGTERM)
    assert train(published, "at-the-end") == 0
    assert training(published, "at-the-end")["steps"] == 22


def test_a_signal_before_the_first_step_ends_the_training_with_nothing_written(
    published: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preparation, "verify_files", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert train(published, "not-begun") == 75
    assert "stopped by SIGTERM before the first step: nothing is lost (status 75)" in capsys.readouterr().err
    assert not folder(published, "not-begun").exists()


def test_a_rank_that_waits_for_the_others_can_end(monkeypatch: pytest.MonkeyPatch) -> None:
    holds_up_the_end: list[bool] = []
    init = lambda: holds_up_the_end.append(not threading.current_thread().daemon)  # noqa: E731
    monkeypatch.setattr(hvd, "init", init)
    horovod_backend.start_yielding()
    assert holds_up_the_end == [False]


def test_checkpoints_are_written_by_the_clock_as_well(published: Published) -> None:
    assert train(published, "clock", "--set", "train.checkpoint_minutes=1e-9", "--stop-after", "4") == 0
    assert [record.step for record in store.read_chain(folder(published, "clock"))] == [1, 2, 3, 4]
    assert train(published, "steps", "--set", "train.checkpoint_minutes=600", "--stop-after", "6") == 0
    assert [record.step for record in store.read_chain(folder(published, "steps"))] == [5, 6]


def test_an_evaluation_beside_the_training_is_marked_at_its_end(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, run = plain.Plain.step, folder(published, "judged")
    of_old = {"checkpoint": "step-00000005.pt", "checkpoint_sha256": "0" * 64, "outdated": None}

    def step(method: Any, batch: Any, number: int, *rest: Any) -> Any:
        if number == 14:
            summary.update(run, evaluation=of_old)
        return real(method, batch, number, *rest)

    monkeypatch.setattr(plain.Plain, "step", step)
    assert train(published, "judged") == 0
    found = summary.read(run)["evaluation"]
    best = training(published, "judged")["best_checkpoint"].rsplit("/", 1)[-1]
    told = f"of step-00000005.pt, not of the run's best, {best}, which training.evaluate judges"
    assert found == {**of_old, "outdated": told}


def test_the_command_that_repeats_a_run_names_another_and_the_same_data() -> None:
    given = ["--config", "c.toml", "--run", "x", "--resume=auto", "--set", "train.epochs=1", "--version", "3"]
    told = ["--config", "c.toml", "--set", "train.epochs=1", "--manifest", "/m.json", "--run", "x-repeated"]
    assert running.repeated(given, "x", "/m.json") == told
    more = ["--resume", "--new-data", "--again", "--stop-after", "5", "--manifest=latest"]
    assert running.repeated([*given, *more], "x", "/m.json") == told
