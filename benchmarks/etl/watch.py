"""Runs one measured process: when it began and ended what it does, how much memory it and all below it held, and
whether others took processor time from it meanwhile.

The process prints `{"event": "begin"}` and `{"event": "end"}` around what is timed, and may go on afterwards.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process_tree import ProcessorTime, busy_seconds, descendants, proportional_mb, statuses
from common.errors import CheckError

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE_SECONDS = 0.5
OTHERS = 0.05
"""The share of the machine's processor time from which on others disturb a run."""


@dataclass
class Peaks:
    """The most memory held at any of the samples, in MB; pages that processes share are divided among them."""

    all: float = 0.0
    java: float = 0.0
    below_java: float = 0.0
    """Spark's Python workers."""

    def add(self, root: int) -> None:
        """Take a sample of a process and all below it."""
        running = statuses()
        memory = {process: proportional_mb(process) for process in descendants(root, running)}
        java = {process for process in memory if process in running and running[process].name == "java"}
        below = {each for process in java for each in descendants(process, running)} - java
        # What a Java machine has just forked shows the machine's own memory until it becomes something else.
        below = {each for each in below if each in running and running[each].name.startswith("python")}
        self.all = max(self.all, sum(memory.values()))
        self.java = max(self.java, sum(memory[process] for process in java))
        self.below_java = max(self.below_java, sum(memory.get(process, 0.0) for process in below))


@dataclass(frozen=True)
class Moment:
    """What the clocks say."""

    wall: float
    own: float
    busy: float

    @classmethod
    def now(cls, own: ProcessorTime) -> "Moment":
        return cls(time.time(), own.seconds(), busy_seconds())


@dataclass(frozen=True)
class Run:
    """A measured run."""

    seconds: float
    """From `begin` to `end`."""
    cold_seconds: float
    """From the start of the process to `end`."""
    cpu_seconds: float
    """Of the process and all below it, from `begin` to `end`."""
    others: float
    """The share of the machine's processor time that went to other processes (and other machines on its host)."""
    disturbed: bool
    began: float
    ended: float
    peaks: Peaks
    more: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def others_share(begin: Moment, end: Moment, cores: int) -> float:
    """Return the part of the machine's processor time between two moments that neither we used nor nobody."""
    return max(0.0, (end.busy - begin.busy) - (end.own - begin.own)) / (cores * (end.wall - begin.wall))


def watch(python: Path, module: str, arguments: Sequence[str], environment: dict[str, str], log: Path) -> Run:
    """Run `python -m module` in the checkout, its messages in `log`.

    Raises CheckError with the end of the messages where it fails or says nothing of what it does.
    """
    machine = os.cpu_count() or 1
    peaks, ended = Peaks(), threading.Event()
    own = ProcessorTime(os.getpid())
    moments: dict[str, Moment] = {}
    started = time.time()
    more: dict[str, Any] = {}
    with (
        log.open("wb") as messages,
        subprocess.Popen(
            [str(python), "-m", module, *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=messages,
        ) as process,
    ):
        watcher = threading.Thread(
            target=_sample, args=(process.pid, peaks, own, moments, ended), daemon=True
        )
        watcher.start()
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(b'{"event"'):
                    told = json.loads(line)
                    moments[told.pop("event")] = Moment.now(own)
                    more |= told
                    peaks.add(process.pid)
            status = process.wait()
        finally:
            ended.set()
            watcher.join()
            if process.poll() is None:
                process.kill()
    if status != 0 or not {"begin", "end"} <= moments.keys():
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise CheckError(f"{module} ended with status {status} (all of its messages: {log}):\n{last}")
    begin, end = moments["begin"], moments["end"]
    others = others_share(begin, end, machine)
    return Run(
        seconds=end.wall - begin.wall,
        cold_seconds=end.wall - started,
        cpu_seconds=end.own - begin.own,
        others=others,
        disturbed=others > OTHERS,
        began=begin.wall,
        ended=end.wall,
        peaks=peaks,
        more=more,
    )


def _sample(
    process: int, peaks: Peaks, own: ProcessorTime, moments: dict[str, Moment], ended: threading.Event
) -> None:
    """Only what is held from `begin` to `end` counts: neither a warm-up nor what the judging needs."""
    while not ended.wait(SAMPLE_SECONDS):
        if "begin" in moments and "end" not in moments:
            peaks.add(process)
            own.seconds()
