"""Lock of a data set, written by one run at a time: a second run ends with a message that names the first."""

from collections.abc import Iterator
from contextlib import contextmanager

from common import lock
from schemas.config import Configuration
from schemas.tables import Layout

LOCK = "lock"


@contextmanager
def locked(config: Configuration) -> Iterator[None]:
    """Hold the lock of a data set. Raises UsageError where another run has it."""
    refusal = f"another run is writing the data set {config.dataset.name}"
    with lock.held(Layout.of(config).at(LOCK), refusal, config.storage):
        yield
