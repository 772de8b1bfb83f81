"""Columns of the shards of a split in their order, for what needs no shuffled batches."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from common import storage
from common.errors import DataError
from common.storage import Storage
from schemas.manifest import Column, Manifest


def read_row_groups(
    manifest: Manifest, split: str, columns: Sequence[Column], options: Storage | None
) -> Iterator[tuple[pa.Table, str]]:
    """Yield the given columns of each row group of a split, with its name for messages.

    Raises DataError for a shard that cannot be read.
    """
    names = [column.name for column in columns]
    for shard in manifest.splits[split].shards:
        location = manifest.shard_uri(shard)
        file_system, path = storage.filesystem(location, options)
        try:
            with file_system.open(path, "rb") as opened:
                file = pq.ParquetFile(opened)
                for number in range(file.num_row_groups):
                    yield file.read_row_group(number, columns=names), f"row group {number} of {location}"
        except (OSError, pa.ArrowException) as error:
            first = (str(error).splitlines() or [""])[0]
            raise DataError(f"{location} cannot be read ({first}); publish the data set again") from error
