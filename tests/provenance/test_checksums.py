"""Checksums of row groups."""

import zlib

import numpy as np

from provenance.checksums import row_group_crc32


def test_it_is_the_crc_of_gzip_over_all_columns() -> None:
    columns = [np.arange(1000, dtype="<u2").reshape(10, 100), np.zeros((0, 2), "<u8"), np.ones(3, "<i4")]
    assert row_group_crc32(columns) == zlib.crc32(b"".join(column.tobytes() for column in columns))
    assert row_group_crc32([]) == 0
