"""Petastorm 0.13.1 on current pyarrow and numpy, for which no newer Petastorm exists.

It imports two modules that are gone: `pyarrow.filesystem`, and through its own HDFS client `pyarrow.hdfs` and
`distutils`. Stand-ins for both are in place while Petastorm is imported, and removed afterwards. Names that it then
looks up in vain (`ParquetDataset` with pieces, `np.unicode_`) are given to its own modules as globals: nothing is set
on pyarrow or numpy. Files are opened through fsspec, so Petastorm's HDFS client is never used.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem


class Piece:
    """One row group, or one file if `row_group` is None: pyarrow's ParquetDatasetPiece up to version 14."""

    def __init__(
        self,
        path: str,
        open_file_func: Callable[[str, str], IO[bytes]],
        row_group: int | None = None,
        partition_keys: Sequence[Any] = (),
    ) -> None:
        self.path, self.open, self.row_group, self.partition_keys = (
            path,
            open_file_func,
            row_group,
            partition_keys,
        )

    def get_metadata(self) -> pq.FileMetaData:
        """Read the footer. Raises OSError or ArrowException if there is none."""
        with self.open(self.path, "rb") as file:
            return pq.read_metadata(file)

    def read(self, columns: set[str], partitions: None) -> pa.Table:
        """Read the row group for Petastorm's own worker, which wants the file's order of columns."""
        with self.open(self.path, "rb") as source, pq.ParquetFile(source) as file:
            names = [name for name in file.schema_arrow.names if name in columns]
            return file.read_row_group(self.row_group, names)


class LegacyDataset:
    """Files without partitions or summary files: pyarrow's ParquetDataset up to version 14."""

    metadata = common_metadata = partitions = None

    def __init__(
        self, paths: Sequence[str], filesystem: AbstractFileSystem, filters: None = None, **_: Any
    ) -> None:
        if filters is not None:
            raise NotImplementedError("filters: they lose rows, see training.input.petastorm_reader")
        self.paths, self.fs = paths, filesystem
        self.pieces = [Piece(path, filesystem.open) for path in paths]


class _Numpy:
    """numpy with two names from before version 2."""

    string_, unicode_ = np.bytes_, np.str_

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def _stand_ins(**names: dict[str, Any]) -> Iterator[None]:
    """Let modules of these names be imported inside the block, unless they are loaded already."""
    added = {}
    for name, contents in names.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        added[name] = module
    added = {name: module for name, module in added.items() if name not in sys.modules}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


with _stand_ins(
    **{
        "pyarrow.filesystem": {"LocalFileSystem": LocalFileSystem},
        "petastorm.hdfs.namenode": {"HdfsNamenodeResolver": None, "HdfsConnector": None},
    }
):
    import petastorm.arrow_reader_worker
    import petastorm.etl.dataset_metadata
    import petastorm.fs_utils
    import petastorm.reader
    import petastorm.unischema
    from petastorm.reader import Reader, make_batch_reader
    from petastorm.workers_pool import EmptyResultError
    from petastorm.workers_pool.ventilator import Ventilator
    from petastorm.workers_pool.worker_base import WorkerBase

__all__ = ["EmptyResultError", "Reader", "Ventilator", "WorkerBase", "make_batch_reader"]

_older = SimpleNamespace(ParquetDataset=LegacyDataset, ParquetDatasetPiece=Piece)
petastorm.reader.pq = petastorm.etl.dataset_metadata.pq = petastorm.arrow_reader_worker.pq = _older
petastorm.unischema.np = petastorm.arrow_reader_worker.np = _Numpy()
petastorm.fs_utils.pyarrow = SimpleNamespace(localfs=LocalFileSystem())
