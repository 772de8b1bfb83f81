"""Frames that are read more than once, persisted on the executors' disks meanwhile.

On disk and not in Spark's memory, which would hold compressed columns that the operating system's cache holds anyway,
and a heap filled with them has no room left for joins, broadcasts and sorts of large data.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import StorageLevel
from pyspark.sql import DataFrame

LEVEL = StorageLevel.DISK_ONLY


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """Persist the frame, computed once by its first reader, until the block ends."""
    frame.persist(LEVEL)
    try:
        yield frame
    finally:
        frame.unpersist()
