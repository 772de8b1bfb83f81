"""Signals that end a process at once, in processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import training

REPOSITORY = Path(training.__file__).parents[1]
SCRIPT = """
import time
from training.engine.stopping import Preemption
with Preemption({grace}) as preemption:
    preemption.defers = True
    print("ready", flush=True)
    while preemption.requested is None:
        time.sleep(0.01)
    print("asked", flush=True)
    while True:  # the system may give a signal to a thread that it does not wake the main one for
        time.sleep(0.01)
"""


def start(grace: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(grace=grace)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    process = start(600)
    # As passed on by others, it counts once.
    process.send_signal(signal.SIGUSR1)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGUSR1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines() == [
        "SIGUSR1: the training ends after this step, with a checkpoint, or 600 s from now (train.grace); a second "
        "signal ends it at once",
        "ended at once by a second signal; --resume goes on from the last checkpoint",
    ]


def test_the_grace_is_not_exceeded() -> None:
    process = start(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "ended 0.2 s after SIGTERM (train.grace); --resume goes on from the last checkpoint" in err
