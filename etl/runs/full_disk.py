"""Full disk, whichever library meets it first, as one sentence that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from common.errors import DataError
from schemas.config import Configuration
from schemas.tables import Layout

FULL = ("No space left on device", "Disk quota exceeded")


@contextmanager
def full_disk_as_error(config: Configuration) -> Iterator[None]:
    """Raise DataError in place of any library's error about a full disk."""
    try:
        yield
    except (OSError, Py4JError, PySparkException, DeltaError) as error:
        if not any(words in str(error) for words in FULL):
            raise
        raise DataError(
            f"a disk is full: that of {Layout.of(config).root}, or of Spark's scratch (spark.local.dir). What was "
            "published before can be read as before, and nothing was committed that is not whole: free some room and "
            "run again"
        ) from error
