"""Errors that a user's environment causes, whichever library meets them first, as one sentence that says what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException

from common.errors import DataError, RinglakeError, UsageError
from schemas.config import Configuration
from schemas.tables import Layout

REFUSED = ("Read-only file system", "Permission denied", "Operation not permitted")
MEMORY = "RINGLAKE_DRIVER_MEMORY (--driver-memory for spark-submit), now by default half of the memory and at most 4g"


@contextmanager
def environment_errors_explained(config: Configuration) -> Iterator[None]:
    """Raise DataError or UsageError in place of a library's error about disks, permissions, memory or Python."""
    try:
        yield
    except (OSError, Py4JError, PySparkException, DeltaError) as error:
        explained = _explained(error, config)
        if explained is None:
            raise
        raise explained from error


def _explained(error: Exception, config: Configuration) -> RinglakeError | None:
    message, places = str(error), f"{Layout.of(config).root}, or Spark's scratch (TMPDIR, spark.local.dir)"

    def says(*texts: str) -> bool:
        return any(text in message for text in texts)

    if says("No space left on device", "Disk quota exceeded"):
        return DataError(
            f"a disk is full: that of {places}. What was published before can be read as before, and nothing was "
            "committed that is not whole: free some room and run again"
        )
    refused = [line for line in message.splitlines() if any(text in line for text in REFUSED)]
    if refused:
        return UsageError(
            f"a file of {places}, cannot be opened or written to ({refused[0].strip()[:300]}): look at its permissions "
            "and how its disk is mounted, or choose another dataset.root"
        )
    if says("java.lang.OutOfMemoryError"):
        return DataError(f"Spark's Java machine ran out of heap: give it more with {MEMORY}")
    if isinstance(error, Py4JNetworkError | ConnectionError):
        return DataError(
            "Spark's Java machine has ended in the middle, as it does where the system or a container's memory limit "
            f"kills it: look at the end of the newest logs/spark-*.log; give less heap with {MEMORY}"
        )
    if says("Python worker exited unexpectedly"):
        return DataError(
            "a Python worker of Spark's was killed, most likely because memory was used up: run fewer tasks at a time "
            f"(SPARK_MASTER=local[1]), or give Java less heap with {MEMORY}"
        )
    if says("PYTHON_VERSION_MISMATCH"):
        return UsageError(
            "the workers of the cluster run another version of Python than this driver: set PYSPARK_PYTHON to one of "
            "the same version there, or submit with the environment that `make package` builds"
        )
    checksum = re.search(r"ChecksumException: Checksum error: (?:file:)?(.*?) at \d", message)
    if checksum:
        folder, _, name = checksum[1].rpartition("/")
        return DataError(
            f"{checksum[1]} does not match its checksum, {folder}/.{name}.crc: put it back from a copy or, where you "
            "know it to be right, delete that checksum"
        )
    return None
