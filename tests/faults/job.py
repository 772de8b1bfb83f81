"""Launches of horovodrun for tests: bounded in time, ended by process id, and looked after for what they leave behind.

Every process of a job carries a token of its own in its environment, whoever its parent is by now.
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
SCRIPT = Path(__file__).with_name("faulty_training.py")
TOKEN = "RINGLAKE_TEST_JOB"
SECONDS = 180
"""No job may take longer."""


class Job:
    """A launch of horovodrun; a context manager that ends all its processes."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        options: Sequence[str] = (),
        ranks: int = 2,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`folder` takes what it prints and is its working folder; `options` are horovodrun's, by default those of
        `ranks` processes on this machine; `prefix` is a command that starts horovodrun elsewhere.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.token = uuid.uuid4().hex
        self.log = folder / "output.txt"
        given = {**os.environ, **FOR_TWO, **(environment or {})}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    str(HOROVODRUN),
                    *(options or ["-np", str(ranks), "-H", f"localhost:{ranks}"]),
                    "--gloo",
                    *command,
                ],
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
        """What it printed so far."""
        return self.log.read_text("utf-8", errors="replace")

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit status. Fails with what it printed when it does not end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the job has not ended after {seconds} seconds; it printed:\n{self.shown()}"
            ) from None

    def wait_for(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        """Waits until what it printed matches. Fails when it ends before, or takes too long."""
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
        """Its processes that are still there, orphans and those of its helpers included."""
        return with_token(self.token)

    def orphans(self, seconds: float = 15) -> list[str]:
        """The command lines of what is still there when it should all be gone, after some patience."""
        until = time.monotonic() + seconds
        while self.processes() and time.monotonic() < until:
            time.sleep(0.05)
        return [
            Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            for process in self.processes()
        ]


def with_token(token: str) -> list[int]:
    """All processes of this machine, zombies left out, whose environment has a token."""
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
    """SIGKILL to a process that may be gone."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def training_command(
    published: Published, run: str, *arguments: str, keys: Path | None = None, fault: str = ""
) -> list[str]:
    """The command of a rank: a training that writes the keys of its batches below `keys` and suffers `fault`.

    See `faulty_training.py` for faults.
    """
    return [
        *(sys.executable, str(SCRIPT), str(keys or ""), fault),
        *("--config", str(published.config), "--run", run, *arguments),
    ]


def batches(*launches: Path) -> dict[int, list[str]]:
    """The global batches of one or more launches, as their ranks wrote them: sorted keys by position.

    What was done again, by a later launch or by the ranks that were left, replaces what was done before.
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
