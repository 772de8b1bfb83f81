"""Process and its descendants, from /proc: their memory, their processor time, and the rest of the machine's
activity.
"""

import os
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
BUSY = (0, 1, 2, 5, 6, 7)
"""Fields of a line `cpu` of /proc/stat: user, nice, system, irq, softirq, steal."""


@dataclass(frozen=True)
class Status:
    """Values from a line of /proc/<pid>/stat."""

    name: str
    parent: int
    cpu_seconds: float
    """Time of the process and of its children that have ended."""
    waited_for: float
    """Part of it that children used; children that were not waited for are missing."""


def statuses() -> dict[int, Status]:
    """Return the status of all processes, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it has ended
            name, rest = line.split("(", 1)[1].rsplit(")", 1)
            fields = rest.split()
            own, waited_for = (sum(map(int, part)) / TICKS for part in (fields[11:13], fields[13:15]))
            found[int(entry.name)] = Status(name, int(fields[1]), own + waited_for, waited_for)
    return found


def descendants(root: int, of: dict[int, Status] | None = None) -> list[int]:
    """Return a process and its descendants."""
    running = statuses() if of is None else of
    children: dict[int, list[int]] = {}
    for process, status in running.items():
        children.setdefault(status.parent, []).append(process)
    found = [root]
    for parent in found:
        found += children.get(parent, ())
    return found


class ProcessorTime:
    """Processor time of a process and its descendants, including those that have ended.

    The system forgets the time of a process that nobody waits for, as Spark does with its Python workers. Frequent
    calls compensate: each remembers the time that every process had used when it was last seen.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._seen: dict[int, Status] = {}
        self._forgotten = 0.0
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """Return the seconds used until now."""
        with self._lock:
            running = statuses()
            now = {
                process: running[process] for process in descendants(self.root, running) if process in running
            }
            ended: defaultdict[int, float] = defaultdict(float)
            for process in self._seen.keys() - now.keys():
                above = process
                while above in self._seen and above not in now:
                    above = self._seen[above].parent
                ended[above] += self._seen[process].cpu_seconds
            for above, used in ended.items():
                known = now[above].waited_for - self._seen[above].waited_for if above in self._seen else 0.0
                self._forgotten += max(0.0, used - known)
            self._seen = now
            return self._forgotten + sum(status.cpu_seconds for status in now.values())


def busy_seconds() -> float:
    """Return the processor time of the whole machine since it started, whoever used it."""
    first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return sum(int(first[field]) for field in BUSY) / TICKS


def proportional_mb(process: int) -> float:
    """Return the memory of a process in MB, shared pages divided among their processes; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
