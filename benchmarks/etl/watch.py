"""Execution of one measured process: when its work began and ended, the memory of it and its descendants, and whether
others took processor time from it meanwhile.

The process prints `{"event": "begin"}` and `{"event": "end"}` around the timed work, and may go on afterwards.
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
"""Share of the machine's processor time from which on others disturb a run."""


@dataclass
class Peaks:
    """Highest memory at any of the samples, in MB; shared pages are divided among their processes."""

    all: float = 0.0
    java: float = 0.0
    below_java: float = 0.0
    """Spark's Python workers."""

    def add(self, root: int) -> None:
        """Sample a process and its descendants."""
        running = statuses()
        memory = {process: proportional_mb(process) for process in descendants(root, running)}
        java = {process for process in memory if process in running and running[process].name == "java"}
        below = {each for process in java for each in descendants(process, running)} - java
        # A process that Java has just forked shows Java's own memory until it becomes something else.
        below = {each for each in below if each in running and running[each].name.startswith("python")}
        self.all = max(self.all, sum(memory.values()))
        self.java = max(self.java, sum(memory[process] for process in java))
        self.below_java = max(self.below_java, sum(memory.get(process, 0.0) for process in below))


@dataclass(frozen=True)
class Moment:
    """Readings of the clocks."""

    wall: float
    own: float
    busy: float

    @classmethod
    def now(cls, own: ProcessorTime) -> "Moment":
        return cls(time.time(), own.seconds(), busy_seconds())


@dataclass(frozen=True)
class Run:
    """Measured run."""

    seconds: float
    """Time from `begin` to `end`."""
    cold_seconds: float
    """Time from the start of the process to `end`."""
    cpu_seconds: float
    """Processor time of the process and its descendants, from `begin` to `end`."""
    others: float
    """Share of the machine's processor time that went to other processes (and other machines on its host)."""
    disturbed: bool
    began: float
    ended: float
    peaks: Peaks
    more: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def others_share(begin: Moment, end: Moment, cores: int) -> float:
    """Return the share of the machine's processor time between two moments that went neither to us nor idle."""
    return max(0.0, (end.busy - begin.busy) - (end.own - begin.own)) / (cores * (end.wall - begin.wall))


def watch(python: Path, module: str, arguments: Sequence[str], environment: dict[str, str], log: Path) -> Run:
    """Run `python -m module` in the checkout, with its messages in `log`.

    Raises CheckError with the end of the messages where it fails or reports no events.
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
    """Sample only from `begin` to `end`: neither a warm-up nor the judging counts."""
    while not ended.wait(SAMPLE_SECONDS):
        if "begin" in moments and "end" not in moments:
            peaks.add(process)
            own.seconds()
