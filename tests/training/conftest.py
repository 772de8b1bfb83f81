"""What the tests of training share."""

from collections.abc import Iterator

import pytest

from training.parallel.communicator import Ring, make_deterministic


@pytest.fixture
def ring() -> Iterator[Ring]:
    """A ring of this process alone."""
    make_deterministic(1)
    started = Ring.start()
    yield started
    started.stop()
