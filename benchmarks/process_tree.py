"""A process and all below it, from /proc: their memory, their processor time, and what else the machine did."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
BUSY = (0, 1, 2, 5, 6, 7)
"""Fields of a line `cpu` of /proc/stat: user, nice, system, irq, softirq, steal."""


@dataclass(frozen=True)
class Status:
    """From a line of /proc/<pid>/stat."""

    name: str
    parent: int
    cpu_seconds: float
    """Its own and that of its children that have ended."""


def statuses() -> dict[int, Status]:
    """Of all processes, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it has ended
            name, rest = line.split("(", 1)[1].rsplit(")", 1)
            fields = rest.split()
            found[int(entry.name)] = Status(name, int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    return found


def descendants(root: int, of: dict[int, Status] | None = None) -> list[int]:
    """A process and all below it."""
    running = statuses() if of is None else of
    children: dict[int, list[int]] = {}
    for process, status in running.items():
        children.setdefault(status.parent, []).append(process)
    found = [root]
    for parent in found:
        found += children.get(parent, ())
    return found


def cpu_seconds(root: int) -> float:
    """Processor time of a process and all below it, those included that have ended."""
    running = statuses()
    return sum(running[process].cpu_seconds for process in descendants(root, running) if process in running)


def busy_seconds() -> float:
    """Processor time of the whole machine since it started, whoever used it."""
    first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return sum(int(first[field]) for field in BUSY) / TICKS


def proportional_mb(process: int) -> float:
    """Memory of a process in MB, pages that several share divided among them; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
