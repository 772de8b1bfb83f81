"""Measuring processes: start them, read the line of JSON that each prints, watch their memory."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process_tree import descendants, proportional_mb
from common.errors import CheckError

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE_SECONDS = 0.05


@dataclass
class Peak:
    """Highest memory that a process and its descendants held together."""

    mb: float = 0.0


def start(python: Path, module: str, arguments: Sequence[str], **settings: str) -> "subprocess.Popen[str]":
    """Start `python -m module` in the checkout."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "LANCE_LOG": "error",
        "TOKENIZERS_PARALLELISM": "false",
        **settings,
    }
    return subprocess.Popen(
        [str(python), "-m", module, *arguments],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: "subprocess.Popen[str]", seconds: float) -> dict[str, Any]:
    """Return the last line of JSON that a process printed.

    Raises CheckError with the end of its messages where it failed.
    """
    try:
        out, messages = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise CheckError(f"{process.args!r} did not end within {seconds:.0f} s") from None
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode != 0 or not lines:
        last = "\n".join(messages.splitlines()[-8:])
        raise CheckError(f"{process.args!r} ended with status {process.returncode}:\n{last}")
    return dict(json.loads(lines[-1]))


def run(python: Path, module: str, arguments: Sequence[str], seconds: float = 300) -> dict[str, Any]:
    """Start a process and wait for its line of JSON."""
    return result(start(python, module, arguments), seconds)


def run_ranks(
    python: Path, module: str, arguments: Sequence[Sequence[str]], seconds: float = 300
) -> list[dict[str, Any]]:
    """Run one process a rank, side by side, with the environment that launchers give to ranks on one host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = str(len(arguments))
    common = {
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    started = [
        start(python, module, each, RANK=str(r), LOCAL_RANK=str(r), GLOBAL_RANK=str(r), **common)
        for r, each in enumerate(arguments)
    ]
    try:
        return [result(process, seconds) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()


def run_watched(
    python: Path, module: str, arguments: Sequence[str], seconds: float = 300
) -> tuple[dict[str, Any], float]:
    """Return the result of `run`, and the peak memory in MB of the process and its descendants, shared pages once."""
    process, peak, ended = start(python, module, arguments), Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak.mb = max(peak.mb, sum(map(proportional_mb, descendants(process.pid))))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return result(process, seconds), peak.mb
    finally:
        ended.set()
        watcher.join()


def flags(values: Mapping[str, object]) -> list[str]:
    """Return `{"a": 1}` as `--a 1`; dictionaries as JSON."""
    found = []
    for name, value in values.items():
        found += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return found
