"""The watchdog in processes of their own, and its clock."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import training
from training.parallel import watchdog
from training.parallel.watchdog import Watchdog
from training.parallel.watchdog_process import Stopwatch

REPOSITORY = Path(training.__file__).parents[1]
START = (
    "import os, signal, sys, time\nfrom training.parallel import watchdog\n"
    "from training.parallel.watchdog import Watchdog\n"
)
SECONDS = 60
"""Longest time that a test waits for anything, however slow the machine is."""


def start(script: str, session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START + script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=session,
    )


def finished(script: str) -> tuple[int, str, str]:
    """Return exit status and outputs; reading them to their end shows that no child holds them open."""
    process = start(script)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def children_of(process: int) -> list[int]:
    return [child.pid for child in psutil.Process(process).children()]


def has_ended(process: int) -> bool:
    """Return True if the process ends within the time that tests have."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.05)
    return False


def test_a_rank_that_makes_steps_is_left_alone() -> None:
    status, out, err = finished(
        "with Watchdog(2, 0) as dog:\n"
        "    until = time.monotonic() + 3\n"
        "    while time.monotonic() < until:\n        time.sleep(0.05)\n        dog.step()\n"
        "print('done')"
    )
    assert (status, out, err) == (0, "done\n", "")


def test_a_rank_that_hangs_is_ended_with_its_stacks() -> None:
    status, _, err = finished(
        "def stuck():\n    time.sleep(600)\nwith Watchdog(1, 3) as dog:\n    dog.step()\n    stuck()"
    )
    assert status == -signal.SIGKILL
    assert "watchdog: rank 3 " in err
    assert "worked for 1 seconds without a step (train.watchdog)" in err
    assert "in stuck" in err


def test_a_rank_that_waits_is_ended_later_than_one_that_works() -> None:
    began = time.monotonic()
    status, _, err = finished("with Watchdog(1, 0):\n    with watchdog.waiting():\n        time.sleep(600)\n")
    assert status == -signal.SIGKILL
    assert "waited for the other ranks for 3 seconds" in err
    assert time.monotonic() - began >= 3


def test_leaving_a_wait_is_progress() -> None:
    status, _, err = finished(
        "with Watchdog(3, 0):\n"
        "    for _ in range(3):\n"
        "        time.sleep(1)\n"
        "        with watchdog.waiting():\n            time.sleep(1)\n"
    )
    assert (status, err) == (0, "")


def test_a_stopped_rank_is_ended_by_the_process_beside_it() -> None:
    process = start(
        "with Watchdog(1, 2) as dog:\n"
        "    print('started', flush=True)\n"
        "    while True:\n        time.sleep(0.05)\n        dog.step()\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.kill(process.pid, signal.SIGSTOP)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert f"watchdog: rank 2 (process {process.pid}) gave no sign of life for 1 seconds" in err


def test_a_group_that_was_stopped_and_continued_lives_on() -> None:
    process = start(
        "with Watchdog(2, 0) as dog:\n"
        "    print('started', flush=True)\n"
        "    for _ in range(60):\n        time.sleep(0.05)\n        dog.step()\n",
        session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(4)
    os.killpg(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_no_child_outlives_the_rank(end: signal.Signals) -> None:
    process = start("with Watchdog(300, 0):\n    print('started', flush=True)\n    time.sleep(600)")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    (child,) = children_of(process.pid)
    os.kill(process.pid, end)
    process.communicate(timeout=SECONDS)
    assert process.returncode == -end
    assert has_ended(child)


def test_no_child_outlives_the_context() -> None:
    with Watchdog(300, 0):
        (child,) = [
            c
            for c in children_of(os.getpid())
            if b"watchdog_process" in Path(f"/proc/{c}/cmdline").read_bytes()
        ]
    assert not Path(f"/proc/{child}").exists()


def test_an_error_passes_through_and_ends_the_watchdog() -> None:
    with pytest.raises(ValueError, match="own"), Watchdog(300, 0):
        raise ValueError("own")
    with Watchdog(0, 0):
        pass


def test_switched_off_it_starts_nothing() -> None:
    before = children_of(os.getpid())
    with Watchdog(0, 0) as dog:
        dog.step()
        with dog.waiting():
            assert children_of(os.getpid()) == before


def test_without_a_watchdog_the_calls_do_nothing() -> None:
    watchdog.step()
    with watchdog.waiting():
        pass


def test_there_is_one_a_process() -> None:
    with Watchdog(0, 0), pytest.raises(RuntimeError, match="already"):
        Watchdog(0, 0).__enter__()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_stopwatch_leaves_out_times_in_which_it_did_not_run() -> None:
    clock = Clock()
    stopwatch = Stopwatch(0.5, clock)
    for _ in range(4):
        clock.now += 0.5
        stopwatch.advance()
    assert stopwatch.seconds == 2.0
    clock.now += 3600
    assert stopwatch.advance() == 3.0
    stopwatch.reset()
    clock.now += 0.25
    assert stopwatch.advance() == 0.25
