"""Which code made something: the package's version, and the commit where it runs from a git checkout."""

import functools
import subprocess
from pathlib import Path

VERSION = "0.1.0"


@functools.cache  # a process goes on running the code that it began with, and asking git takes a process of its own
def code_version() -> str:
    """Return E.g.

    `0.1.0+g1a2b3c4d5e6f` (`.dirty` behind it with uncommitted changes), or `0.1.0` outside a checkout.
    """
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return VERSION
    command = [
        "git",
        "-C",
        str(checkout),
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty=.dirty",
        "--exclude=*",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return VERSION  # no git on this machine, or a checkout that git does not trust
    return f"{VERSION}+g{answer.stdout.strip()}"
