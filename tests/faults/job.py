"""Launches of horovodrun and torchrun for tests: bounded in time, ended by process id, and checked for leftovers.

Every process of a job carries a token of its own in its environment, whatever its current parent.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import training
from tests.training.devices import FOR_TWO
from tests.training.published import Published

REPOSITORY = Path(training.__file__).parents[1]
HOROVODRUN = Path(sys.executable).with_name("horovodrun")
TORCHRUN = HOROVODRUN.with_name("torchrun")
SCRIPT = Path(__file__).with_name("faulty_training.py")
TOKEN = "RINGLAKE_TEST_JOB"
SECONDS = 180
"""Longest time that a job may take."""


class Job:
    """A launch of horovodrun or torchrun; a context manager that ends all its processes."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        options: Sequence[str] = (),
        ranks: int = 2,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        backend: str = "horovod",
    ) -> None:
        """Launch `command` with `folder` as its working folder, which also receives its output.

        `options` are the launcher's, by default those of `ranks` processes on this machine; `prefix` is a command that
        starts it elsewhere.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.token = uuid.uuid4().hex
        self.log = folder / "output.txt"
        given = {**os.environ, **FOR_TWO, **(environment or {})}
        horovodrun = [
            str(HOROVODRUN),
            *(options or ["-np", str(ranks), "-H", f"localhost:{ranks}"]),
            "--gloo",
        ]
        torchrun = [
            str(TORCHRUN),
            *(options or ["--standalone", "--nproc-per-node", str(ranks)]),
            "--no-python",
            "--",
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *(torchrun if backend == "ddp" else horovodrun), *command],
                cwd=folder,
                env={
                    **given,
                    "PATH": f"{HOROVODRUN.parent}{os.pathsep}{given['PATH']}",
                    "PYTHONPATH": str(REPOSITORY),
                    "HOROVOD_CYCLE_TIME": "1",
                    TOKEN: self.token,
                    "RINGLAKE_TEST_ONCE": str(folder),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        until = time.monotonic() + 30
        while (left := self.processes()) and time.monotonic() < until:
            for process in left:
                end(process)
            time.sleep(0.1)
        self.process.wait(30)

    def shown(self) -> str:
        """Return the output so far."""
        return self.log.read_text("utf-8", errors="replace")

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for the exit status. Fails with the output if the job does not end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the job has not ended after {seconds} seconds; it printed:\n{self.shown()}"
            ) from None

    def wait_for(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        """Wait until the output matches. Fails if the job ends before, or takes too long."""
        until = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None
            if match := re.search(pattern, self.shown()):
                return match
            if ended or time.monotonic() > until:
                raise AssertionError(
                    f"{'it ended' if ended else 'time is up'} without {pattern!r}:\n{self.shown()}"
                )
            time.sleep(0.05)

    def processes(self) -> list[int]:
        """Return its remaining processes, including orphans and those of its helpers."""
        return with_token(self.token)

    def orphans(self, seconds: float = 15) -> list[str]:
        """Return the command lines of processes that remain when all should be gone, after some patience."""
        until = time.monotonic() + seconds
        while self.processes() and time.monotonic() < until:
            time.sleep(0.05)
        return [
            Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            for process in self.processes()
        ]


def with_token(token: str) -> list[int]:
    """Return all processes of this machine, except zombies, with a token in their environment."""
    wanted = f"{TOKEN}={token}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def end(process: int) -> None:
    """Send SIGKILL to a process that may be gone."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def training_command(
    published: Published, run: str, *arguments: str, keys: Path | None = None, fault: str = ""
) -> list[str]:
    """Return the command of a rank: a training that writes the keys of its batches below `keys` and suffers `fault`.

    See `faulty_training.py` for faults.
    """
    return [
        *(sys.executable, str(SCRIPT), str(keys or ""), fault),
        *("--config", str(published.config), "--run", run, *arguments),
    ]


def batches(*launches: Path) -> dict[int, list[str]]:
    """Return the global batches of one or more launches, as their ranks wrote them: sorted keys by position.

    Batches repeated by a later launch, or by the remaining ranks, replace earlier ones.
    """
    found: dict[int, list[str]] = {}
    for folder in launches:
        lines = [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
        attempts: dict[int, dict[tuple[int, int], list[dict[str, Any]]]] = {}
        for entry in map(json.loads, filter(lambda line: line.endswith("}"), lines)):
            communicator = (entry["began"], entry["world"])
            attempts.setdefault(entry["position"], {}).setdefault(communicator, []).append(entry)
        for position, tried in attempts.items():
            last = max(tried.values(), key=lambda entries: max(entry["time"] for entry in entries))
            found[position] = sorted(key for entry in last for key in entry["keys"])
    return found
