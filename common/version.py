"""Version of the code: the package's version, and the commit in a git checkout."""

import functools
import subprocess
from pathlib import Path

VERSION = "0.1.0"


@functools.cache  # Cached: a process keeps running the code that it started with, and git takes a process of its own.
def code_version() -> str:
    """Return e.g. `0.1.0+g1a2b3c4d5e6f` (with `.dirty` for uncommitted changes), or `0.1.0` outside a checkout."""
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
        return VERSION  # git is not installed, or does not trust the checkout
    return f"{VERSION}+g{answer.stdout.strip()}"
