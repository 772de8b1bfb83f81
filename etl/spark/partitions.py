"""Number of partitions of a shuffle, and assignment of rows to chosen partitions."""

import itertools

TASK_BYTES = 32 << 20
"""Bytes of the sources for each task of a shuffle on a cluster, as for each task that reads them."""
LOCAL_TASK_BYTES = 256 << 20
"""The same for a local master, whose few cores gain nothing by more tasks until one would need too much memory."""
FEWEST = 4


def shuffle_partitions(source_bytes: int | None, local_cores: int | None) -> int | None:
    """Return the number of partitions of a shuffle for sources of a size, or of an unknown one (None).

    `local_cores` is None on a cluster, whose number of cores is not known before it runs; None is returned there, and
    Spark's default stays, where the size is not known either. Results never depend on it.
    """
    if local_cores is None:
        return None if source_bytes is None else max(FEWEST, -(-source_bytes // TASK_BYTES))
    return max(FEWEST, 2 * local_cores, -(-(source_bytes or 0) // LOCAL_TASK_BYTES))


def salts(partitions: int) -> list[int]:
    """Return, for each partition p, the smallest integer from 0 on whose Spark hash modulo `partitions` is p.

    `repartition(n, column)` sends a row to the partition of its column's hash; with these salts as the column every
    number from 0 to n - 1 has a task of its own, where the plain numbers would collide.
    """
    found: dict[int, int] = {}
    numbers = itertools.count()
    while len(found) < partitions:
        salt = next(numbers)
        found.setdefault(spark_hash(salt) % partitions, salt)
    return [found[partition] for partition in range(partitions)]


def spark_hash(number: int) -> int:
    """Return Spark's `hash` of an `int`: MurmurHash3 (x86, 32 bits) of its four bytes, seed 42; signed."""
    word = _rotated(number * 0xCC9E2D51, 15) * 0x1B873593
    mixed = (_rotated(42 ^ (word & 0xFFFFFFFF), 13) * 5 + 0xE6546B64) & 0xFFFFFFFF ^ 4
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed = (mixed ^ mixed >> shift) * factor & 0xFFFFFFFF
    return mixed - (mixed >> 31 << 32)


def _rotated(number: int, places: int) -> int:
    """Return the lowest 32 bits of a number, rotated to the left."""
    number &= 0xFFFFFFFF
    return (number << places | number >> 32 - places) & 0xFFFFFFFF
