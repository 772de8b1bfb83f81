"""Lock of a run's folder: only one training writes there, on the one of its ranks that writes."""

from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from common import lock
from common.errors import RinglakeError, UsageError
from common.progress import log
from training.engine import survival
from training.parallel.communicator import Communicator
from training.parallel.world import is_elastic
from training.tracking.run_files import LOCK_FILE


class Ownership:
    """The lock of a run, or the place for it on a rank that does not write; a context manager that gives it back."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._held = ExitStack()
        self._holds = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        with suppress(OSError):  # it is not empty, or not there
            self.run.rmdir()

    def take(self, communicator: Communicator) -> None:
        """Take the lock on the rank that writes; called by all ranks of a new ring.

        Raises UsageError on all of them where another training has it or it cannot be created, DataError where the disk
        is full.
        """
        if not communicator.writes:
            self._give_back()
        communicator.gather(None)  # now the rank that wrote in the ring before has given it back
        error: RinglakeError | None = None
        if communicator.writes and not self._holds:
            try:
                self._held.enter_context(
                    lock.held(str(self.run / LOCK_FILE), refusal(self.run), launch=survival.launch())
                )
                self._holds = True
            except RinglakeError as refused:
                error = self._unless_ours(refused)
        communicator.agree(error)

    def _unless_ours(self, refused: RinglakeError) -> RinglakeError | None:
        """Return None where the holder is a rank of this launch, cut off from the others and about to end."""
        facts = lock.holder(self.run / LOCK_FILE) or {}
        if not is_elastic() or facts.get("launch") != survival.launch():
            return refused
        log(f"note: the lock of {self.run} is still held by a lost rank, {lock.described(facts)}")
        return None

    def _give_back(self) -> None:
        self._held.close()
        self._holds = False


def refusal(run: Path) -> str:
    return f"another training is writing the run {run.name!r}"


def check_free(run: Path) -> None:
    """Raise UsageError if a training is writing a run at this moment."""
    facts = lock.holder(run / LOCK_FILE)
    if facts is not None:
        raise UsageError(f"{refusal(run)} ({lock.described(facts)}); {lock.WAIT}")
