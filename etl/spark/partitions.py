"""Assignment of rows to chosen partitions."""

import itertools


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
