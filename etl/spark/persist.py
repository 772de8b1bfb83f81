"""Frames that are read more than once, kept on the executors' disks meanwhile.

On disk and not in Spark's memory: what is kept there is compressed columns that the operating system's cache holds
anyway, while a heap that is filled with them has no room left for joins, broadcasts and sorts of large data.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import StorageLevel
from pyspark.sql import DataFrame

LEVEL = StorageLevel.DISK_ONLY


@contextmanager
def kept(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, computed once by whatever reads it first, until the block ends."""
    frame.persist(LEVEL)
    try:
        yield frame
    finally:
        frame.unpersist()
