"""Fixtures shared by the tests of training."""

from collections.abc import Iterator

import pytest

from training.parallel.communicator import Communicator, make_deterministic


@pytest.fixture
def communicator() -> Iterator[Communicator]:
    """Start a ring of this process alone."""
    make_deterministic(1)
    started = Communicator.start()
    yield started
    started.stop()
