"""Groups of processes that stay alive but stopped, of which one runs at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from benchmarks.scaling.cases import Case
from benchmarks.scaling.worker import arguments_of
from benchmarks.scaling.workload import ROWS
from common.errors import CheckError

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_SECONDS = 120
STEP_SECONDS = 300
END_SECONDS = 10


@dataclass(frozen=True)
class Slice:
    """Result of one turn of a group."""

    rate: float
    """Samples/s of all ranks together."""
    seconds: float
    """Duration of a step, mean over the ranks."""
    main_seconds: float
    """Processor time of a step in the thread that trains, mean over the ranks."""
    other_seconds: float
    """Processor time of a step in all other threads of the process, mean over the ranks."""


class Group:
    """Processes of one case, in sessions of their own, stopped between their turns."""

    def __init__(self, name: str, case: Case, model: str) -> None:
        """Start the processes; `wait` for them before the first turn."""
        self.name, self.case = name, case
        self.folder = tempfile.TemporaryDirectory(prefix="ringlake-scaling-")
        address, store = str(Path(self.folder.name) / "harness"), str(Path(self.folder.name) / "store")
        self.log = Path(self.folder.name) / "log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            # Stopped groups must not take the pause for a failure.
            "HOROVOD_GLOO_TIMEOUT_SECONDS": "3600",
            "HOROVOD_STALL_CHECK_DISABLE": "1",
            **case.environment,
        }
        environment.pop("HOROVOD_CYCLE_TIME", None)
        if case.cycle is not None:
            environment["HOROVOD_CYCLE_TIME"] = case.cycle
        worker = [
            sys.executable,
            "-m",
            "benchmarks.scaling.worker",
            *arguments_of(case, model, address, store),
        ]
        horovod = case.kind in ("product", "stock", "barrier")
        launcher = [
            str(BIN / "horovodrun"),
            "-np",
            str(case.ranks),
            "--gloo",
            "-H",
            f"localhost:{case.ranks}",
        ]
        commands = (
            [[*launcher, *worker]]
            if horovod
            else [[*worker, "--rank", str(rank)] for rank in range(case.ranks)]
        )
        self.connections: list[Connection] = []
        self.pids: list[int] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.listener = Listener(address)
        with self.log.open("wb") as log:
            for command in commands:
                self.processes.append(
                    subprocess.Popen(
                        command,
                        cwd=REPOSITORY,
                        env=environment,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def wait(self) -> None:
        """Wait until they are ready. Raises CheckError when they do not come up."""
        # The listener has no timeout of its own.
        self.listener._listener._socket.settimeout(START_SECONDS)  # type: ignore[attr-defined]
        try:
            for _ in range(self.case.ranks):
                connection = self.listener.accept()
                _, pid = connection.recv()
                self.connections.append(connection)
                self.pids.append(pid)
        except (OSError, EOFError) as error:
            shown = self.log.read_text(errors="replace")[-3000:]
            raise CheckError(f"the case {self.name!r} did not start:\n{shown}") from error
        self.run(1)

    def run(self, steps: int) -> Slice:
        """Let the processes train so many steps, and stop them again. Raises CheckError when one ended."""
        self._signal(signal.SIGCONT)
        for connection in self.connections:
            connection.send(steps)
        seconds = []
        for connection in self.connections:
            try:
                if not connection.poll(STEP_SECONDS):
                    raise EOFError
                seconds.append(connection.recv())
            except (EOFError, OSError) as error:
                shown = self.log.read_text(errors="replace")[-3000:]
                raise CheckError(f"the case {self.name!r} stopped answering:\n{shown}") from error
        self._signal(signal.SIGSTOP)
        return of_ranks(seconds, steps)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids:
            os.kill(pid, number)

    def close(self) -> None:
        """End the processes, whatever has become of them."""
        self.listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.send(None)
            connection.close()
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for process in self.processes:
            try:
                process.wait(END_SECONDS if self.connections else 0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                # horovodrun starts its processes in sessions of their own.
                for pid in self.pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        self.folder.cleanup()


def of_ranks(seconds: list[list[float]], steps: int) -> Slice:
    """Average each rank's wall, training thread's and process's seconds; the rates of the ranks add up."""
    wall, main, whole = zip(*seconds, strict=True)
    count = steps * len(seconds)
    return Slice(
        sum(ROWS * steps / seconds for seconds in wall),
        sum(wall) / count,
        sum(main) / count,
        (sum(whole) - sum(main)) / count,
    )
