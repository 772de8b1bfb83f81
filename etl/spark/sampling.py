"""Samples that are the same for the same records, whatever their order and partitions."""

from pyspark.sql import Column
from pyspark.sql import functions as F

HASHES = float(1 << 64)


def in_sample(share: float, *salt: str) -> Column:
    """Select records for a sample of about that share (0 to below 1), by the hash of their `record_id`.

    Another salt gives another sample.
    """
    limit = int(share * HASHES) - (1 << 63)  # hashes are signed
    return F.xxhash64("record_id", *map(F.lit, salt)) < F.lit(limit)
