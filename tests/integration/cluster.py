"""A real standalone Spark master and worker on loopback, and `spark-submit` as a user on another machine calls it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyspark

SPARK_HOME = Path(pyspark.__file__).parent
READY_SECONDS = 120.0


def clean_environment() -> dict[str, str]:
    """The environment of a shell that knows nothing of this checkout: no PYTHONPATH, no settings of PySpark."""
    hidden = re.compile(r"PYTHONPATH|PYSPARK_|SPARK_|_PYSPARK")
    kept = {name: value for name, value in os.environ.items() if not hidden.match(name)}
    # The workers' Python is the one that this environment was built from, which need not be on the PATH itself.
    path = f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}"
    return kept | {"SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1", "PATH": path}


@contextmanager
def standalone_cluster(folder: Path, cores: int = 2, memory: str = "1g") -> Iterator[str]:
    """Starts a master and a worker on free ports, yields the master's URL, and ends both (each by its own id)."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        master_log = folder / "master.log"
        _start(
            started, master_log, "master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0"
        )
        url = _wait_for(r"Starting Spark master at (spark://\S+)", master_log)
        arguments = ["--cores", str(cores), "--memory", memory, "--work-dir", str(folder / "work")]
        arguments += ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0", url]
        _start(started, folder / "worker.log", "worker.Worker", *arguments)
        _wait_for(r"(Successfully registered with master)", folder / "worker.log")
        yield url
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=60)


def submit(
    package: Path,
    script: Path,
    arguments: Sequence[str],
    folder: Path,
    master: str | None = None,
    settings: Mapping[str, str] = {},
) -> subprocess.CompletedProcess[str]:
    """Calls `spark-submit` in `folder` with what `make package` built in `package`; output and errors are captured."""
    command = [
        str(SPARK_HOME / "bin" / "spark-submit"),
        "--properties-file",
        str(package / "spark.properties"),
    ]
    command += ["--py-files", str(package / "ringlake.zip"), "--driver-memory", "1g"]
    command += ["--master", master] if master else []
    for key, value in settings.items():
        command += ["--conf", f"{key}={value}"]
    return subprocess.run(
        [*command, str(script), *arguments],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )


def _start(started: list[subprocess.Popen[bytes]], log: Path, name: str, *arguments: str) -> None:
    launcher = str(SPARK_HOME / "bin" / "spark-class")
    command = [launcher, f"org.apache.spark.deploy.{name}", *arguments]
    output: IO[bytes]
    with log.open("wb") as output:
        started.append(
            subprocess.Popen(command, env=clean_environment(), stdout=output, stderr=subprocess.STDOUT)
        )


def _wait_for(pattern: str, log: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found.group(1)
        time.sleep(0.2)
    raise TimeoutError(f"no {pattern!r} in {log} within {READY_SECONDS} s")
