"""Saving beside the training: the state of the step is written, failures are reported and survived."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from training.checkpoints import store
from training.checkpoints.record import CheckpointState, Record
from training.checkpoints.saver import Saver


def state(step: int, weight: torch.Tensor) -> CheckpointState:
    return {
        "format_version": store.FORMAT_VERSION,
        "manifest_root": "root",
        "step": step,
        "position": step,
        "model": {"weight": weight},
    }


FACTS: dict[str, Any] = {
    "configuration_sha256": "c",
    "epoch": 0,
    "finished": False,
    "world_size": 1,
    "validation_loss": None,
    "seconds": 0.0,
    "seconds_waited": 0.0,
}


def test_the_weights_may_change_while_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, real = threading.Event(), store.save

    def slow(*arguments: Any) -> Record:
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(store, "save", slow)
    weight = torch.ones(3)
    with Saver(tmp_path, 3, None, pytest.fail) as saver:
        saver.save(state(1, weight), FACTS)
        weight += 1  # the next step
        go_on.set()
    found = store.last_good(tmp_path, pytest.fail)
    assert found is not None
    assert found[1]["model"]["weight"].tolist() == [1.0, 1.0, 1.0]


def test_checkpoints_follow_one_another(tmp_path: Path) -> None:
    with Saver(tmp_path, 2, None, pytest.fail) as saver:
        for step in (1, 2, 3):
            saver.save(state(step, torch.zeros(2)), FACTS)
    records = store.read_chain(tmp_path)
    assert [record.step for record in records] == [1, 2, 3]
    assert [record.previous for record in records] == [None, records[0].chain, records[1].chain]
    with Saver(tmp_path, 2, records[-1], pytest.fail) as saver:
        saver.save(state(4, torch.zeros(2)), FACTS)
    assert store.read_chain(tmp_path)[-1].previous == records[-1].chain


def test_a_full_disk_is_told_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    real = torch.save
    with Saver(tmp_path, 3, None, said.append) as saver:
        saver.save(state(1, torch.zeros(2)), FACTS)
        assert saver.wait()
        good = saver.last
        for error in (
            OSError(28, "No space left on device"),
            RuntimeError("PytorchStreamWriter failed writing file"),
        ):

            def full(*_: Any, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(torch, "save", full)
            saver.save(state(2, torch.zeros(2)), FACTS)
            assert not saver.wait()
            assert saver.last == good
        monkeypatch.setattr(torch, "save", real)
        saver.save(state(3, torch.zeros(2)), FACTS)
    assert saver.failures == 2
    assert [one.split(" (")[0] for one in said] == [
        "warning: the checkpoint of step 2 could not be written"
    ] * 2
    assert all("No space left on device" in one and "make room" in one for one in said)
    assert "the last good one is of step 1" in said[0]
    assert [record.step for record in store.read_chain(tmp_path)] == [1, 3]
    assert not list(store.folder_of(tmp_path).glob(".*"))


def test_files_that_something_else_removed_are_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "step-00000001.pt")

    monkeypatch.setattr(torch, "save", gone)
    said: list[str] = []
    with Saver(tmp_path, 3, None, said.append) as saver:
        saver.save(state(1, torch.zeros(2)), FACTS)
    (told,) = said
    assert "step-00000001.pt: No such file or directory; something else removed files there" in told
    assert "make room" not in told


def test_a_defect_is_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr(torch, "save", broken)
    saver = Saver(tmp_path, 3, None, pytest.fail)
    saver.save(state(1, torch.zeros(2)), FACTS)
    with pytest.raises(TypeError, match="a defect"):
        saver.wait()
