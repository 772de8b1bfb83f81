"""All use of Petastorm: a reader that delivers planned row groups in the planned order, each exactly once.

Petastorm's `Reader` runs with a pool, a worker and a ventilator of our own, because its stock ones lose row groups,
hang on errors, and neither keep an order nor accept one. The choice of row groups, and the use of their rows, belong
elsewhere (`training.input.order`, `training.input.batch_loader`).
"""

import itertools
import threading
import warnings
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from common import storage
from common.errors import DataError
from provenance.checksums import row_group_crc32
from training.input.class_balance import rows_of
from training.input.columns import AUDITED, Arrays, SplitFiles, to_array
from training.input.petastorm_arrow import EmptyResultError, Reader, Ventilator, WorkerBase
from training.input.wide_rows import Reading, stored_at

JOIN_SECONDS = 2.0
"""Seconds to wait for each thread at the end: a hanging read (remote file system) must not keep the process, so the
threads are daemons."""
OPEN_FILES = 16
"""Files that a worker keeps open, for the next row group of the same file."""


class RowGroupWorker(WorkerBase):  # type: ignore[misc]
    """Worker that reads one row group into arrays, in a thread of the pool."""

    def __init__(self, worker_id: int, publish: Callable[[Arrays], None], arguments: tuple[Any, ...]) -> None:
        super().__init__(worker_id, publish, arguments)
        self.file_system, self.pieces, self.files = arguments[0], arguments[4], arguments[-1]
        self.is_local = all(map(storage.is_local, self.files.locations))
        self.names = [column.name for column in self.files.columns]
        self.hashed = [column.name for column in self.files.columns if column.role not in AUDITED]
        self.label = next((column.name for column in self.files.columns if column.role == "label"), "")
        self.open: OrderedDict[str, pq.ParquetFile] = OrderedDict()

    @staticmethod
    def new_results_queue_reader() -> "_PassOn":
        return _PassOn()

    def process(self, reading: Reading) -> None:
        """Publish the arrays of a row group, and put its wide rows in their places.

        Raises DataError naming it and its file.
        """
        file, number = self.files.place(reading.row_group)
        piece = self.pieces[reading.row_group]
        where = f"row group {number} of {self.files.locations[file]}"
        try:
            parquet = self._parquet(piece.path)
            as_stored = self._as_stored(parquet, piece.row_group, reading)
            table = parquet.read_row_group(
                piece.row_group,
                columns=[name for name in self.names if name not in as_stored],
                use_threads=False,
            )
            rows = self.files.row_groups[file][number]
            if table.num_rows != rows:
                raise DataError(
                    f"{where} has {table.num_rows:,} rows instead of {rows:,}; publish the data set again"
                )
            arrays = {
                column.name: to_array(table, column, where)
                for column in self.files.columns
                if column.name not in as_stored
            }
            hashed = itertools.chain.from_iterable(
                reading.read(name, rows, piece.path, as_stored[name]) if name in as_stored else [arrays[name]]
                for name in self.hashed
            )
            # Data verified before the first step may have changed on disk since.
            if row_group_crc32(hashed) != self.files.crc32[file][number]:
                raise DataError(
                    f"{where} has changed since it was published: its CRC-32 is not that of the manifest; "
                    "restore the file or publish the data set again"
                )
            if self.files.repeats is not None:
                self._check_repeats(arrays, self.files.epoch_row_groups[file][number], where)
            for name in reading.places.keys() - as_stored:
                self._put(arrays.pop(name), arrays, reading, name)
        except (OSError, KeyError, pa.ArrowException) as error:
            first = (str(error).splitlines() or [""])[0]
            raise DataError(
                f"{where} cannot be read ({first}); restore the file or publish the data set again"
            ) from error
        except Exception as error:
            # Third-party file systems raise errors of their own; each has to say what was being read.
            error.add_note(f"while {where} was being read")
            raise
        self.publish_func(arrays)

    def _as_stored(self, parquet: pq.ParquetFile, row_group: int, reading: Reading) -> dict[str, int]:
        """Return where in the file the rows begin, by wide column that can be read past pyarrow."""
        # The rows that are taken several times follow from labels that are not checked yet.
        if not reading.places or not self.is_local or self.files.repeats is not None:
            return {}
        wide = (column for column in self.files.columns if column.name in reading.places)
        found = {column.name: stored_at(parquet.metadata, row_group, column) for column in wide}
        return {name: offset for name, offset in found.items() if offset is not None}

    def _put(self, values: npt.NDArray[Any], arrays: Arrays, reading: Reading, name: str) -> None:
        """Copy the rows of a wide column to their places."""
        taken: Iterable[int] = range(len(values))
        if self.files.repeats is not None:
            taken = rows_of(arrays[self.label], self.files.repeats).tolist()
        for row, place in zip(
            itertools.islice(taken, reading.first, None), reading.places[name], strict=False
        ):
            place[:] = values[row].reshape(-1).view(np.uint8)

    def _check_repeats(self, arrays: Arrays, expected: int, where: str) -> None:
        """Raise DataError if the labels of a row group do not give the rows that the order counts on."""
        by_label = np.bincount(arrays[self.label])
        repeats = self.files.repeats
        assert repeats is not None
        found = int(by_label @ repeats[: len(by_label)]) if len(by_label) <= len(repeats) else None
        if found != expected:
            raise DataError(
                f"{where} gives {'labels without a class' if found is None else f'{found:,} rows'} in an epoch "
                f"instead of the {expected:,} that the manifest says; publish the data set again"
            )

    def _parquet(self, path: str) -> pq.ParquetFile:
        if path in self.open:
            self.open.move_to_end(path)
            return self.open[path]
        source = path if self.is_local else self.file_system.open(path, "rb")
        self.open[path] = pq.ParquetFile(source, pre_buffer=False)  # pre-buffering is slower for local files
        if len(self.open) > OPEN_FILES:
            self.open.popitem(last=False)[1].close()
        return self.open[path]

    def shutdown(self) -> None:
        for file in self.open.values():
            file.close()
        self.open.clear()


class _PassOn:
    """Petastorm's end of the results: passes on what a worker published."""

    batched_output = True

    @staticmethod
    def read_next(pool: "OrderedPool", schema: object, ngram: object) -> Arrays:
        try:
            return pool.get_results()
        except EmptyResultError:
            raise StopIteration from None


class PlannedVentilator(Ventilator):  # type: ignore[misc]
    """Ventilator that hands the plan to the pool a few row groups at a time, at most `ahead` tasks before the consumer.

    It has no thread of its own: taking a task's last result lets the next task in. So nothing can end too early, and
    prefetching is bounded.
    """

    def __init__(
        self, ventilate: Callable[..., None], plan: Iterator[Reading], together: int, ahead: int
    ) -> None:
        super().__init__(ventilate)
        self.plan, self.together, self.ahead, self.exhausted = plan, together, ahead, False

    def start(self) -> None:
        for _ in range(self.ahead):
            self.processed_item()

    def processed_item(self) -> None:
        readings = () if self.exhausted else tuple(itertools.islice(self.plan, self.together))
        if readings:
            self._ventilate_fn(*readings)
        else:
            self.exhausted = True

    def completed(self) -> bool:
        return self.exhausted

    def stop(self) -> None:
        self.exhausted = True


class OrderedPool:
    """Threads that read row groups side by side, and deliver them in the order in which they were requested.

    Petastorm's pool protocol: start, ventilate, get_results, stop, join. Two queues carry everything that passes
    between the threads, so there is no polling; a worker's error comes out of `get_results` at the place of its row
    group.
    """

    def __init__(self, workers: int, files: SplitFiles) -> None:
        self.workers_count, self.files = workers, files
        self.ventilated = self.taken = self.row_groups = 0
        # None tells a worker, or a thread waiting for results, to end.
        self._tasks: SimpleQueue[tuple[int, tuple[Reading, ...]] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[int, list[Arrays | Exception]] | None] = SimpleQueue()
        self._early: dict[int, list[Arrays | Exception]] = {}
        self._current: deque[Arrays | Exception] = deque()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def start(self, worker_class: type[RowGroupWorker], worker_args: Any, ventilator: Any = None) -> None:
        for number in range(self.workers_count):
            thread = threading.Thread(
                target=self._work,
                args=(worker_class, number, worker_args),
                name=f"read-{number}",
                daemon=True,
            )
            self._threads.append(thread)
            thread.start()
        self._ventilator = ventilator
        ventilator.start()

    def ventilate(self, *readings: Reading) -> None:
        """Queue a task: row groups that one worker reads together."""
        self._tasks.put((self.ventilated, readings))
        self.ventilated += 1

    def get_results(self) -> Arrays:
        """Wait for the next row group in order. Raises EmptyResultError at the end, or the worker's error.

        Only one thread may call it.
        """
        if not self._current:
            self._take_task()
        result = self._current.popleft()
        if isinstance(result, Exception):
            self.stop()
            raise result
        self.row_groups += 1
        if not self._current:
            self._ventilator.processed_item()
        return result

    def _take_task(self) -> None:
        if self.taken == self.ventilated and self._ventilator.completed():
            raise EmptyResultError
        while self.taken not in self._early:
            arrived = self._results.get()
            if arrived is None or self._stopped:
                raise EmptyResultError
            number, results = arrived
            self._early[number] = results
        self._current.extend(self._early.pop(self.taken))
        self.taken += 1

    @property
    def ready(self) -> bool:
        """True if `get_results` would not wait; only the thread that calls that may ask."""
        while not self._current and self.taken not in self._early and not self._results.empty():
            arrived = self._results.get()
            if arrived is None:  # stopped, which is for `get_results` to find
                self._results.put(None)
                return True
            number, results = arrived
            self._early[number] = results
        return bool(self._current) or self.taken in self._early

    def stop(self) -> None:
        """Stop the workers, after the row groups in hand, and any wait for results."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)
        self._results.put(None)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def results_qsize(self) -> int:
        return self._results.qsize() + len(self._early)

    @property
    def diagnostics(self) -> Mapping[str, int]:
        """Counters: `row_groups` is the number that have passed through the pool so far."""
        return {"output_queue_size": self.results_qsize(), "row_groups": self.row_groups}

    def _work(self, worker_class: type[RowGroupWorker], number: int, arguments: tuple[Any, ...]) -> None:
        found: list[Arrays | Exception] = []
        worker = worker_class(number, found.append, (*arguments, self.files))
        while (task := self._tasks.get()) is not None and not self._stopped:
            place, readings = task
            try:
                for reading in readings:
                    worker.process(reading)
            # Any error in this thread has to reach the one that waits for the row group.
            except Exception as error:  # noqa: BLE001
                found.append(error)
            self._results.put((place, found.copy()))
            found.clear()
        worker.shutdown()


class PlannedReader(Reader):  # type: ignore[misc]
    """Petastorm's reader over the files of a split: iterating delivers the planned row groups as arrays, in order."""

    def __init__(
        self, files: SplitFiles, plan: Iterator[Reading], workers: int, ahead: int, together: int = 1
    ) -> None:
        """Start reading `plan`.

        A worker reads `together` of them at a time, and `ahead` such tasks are read before they are requested. Raises
        DataError if a file cannot be opened or does not have the row groups in the manifest.
        """
        self.files, self._plan, self._together, self._ahead = files, plan, together, ahead
        self.pool = OrderedPool(workers, files)
        paths = [storage.filesystem(location, files.options)[1] for location in files.locations]
        try:
            with warnings.catch_warnings():
                # Petastorm warns of columns with types unknown to it, which only its own workers would leave out.
                warnings.simplefilter("ignore")
                super().__init__(
                    storage.filesystem(files.locations[0], files.options)[0],
                    paths,
                    schema_fields=[f"^{column.name}$" for column in files.columns],
                    reader_pool=self.pool,
                    worker_class=RowGroupWorker,
                    is_batched_reader=True,
                    shuffle_row_groups=False,
                )
        except (OSError, pa.ArrowException) as error:
            raise self._explained(error) from error

    def _filter_row_groups(self, dataset: Any, row_groups: list[Any], *_: object) -> tuple[list[int], None]:
        """Put Petastorm's list of row groups into the manifest's order, and compare the two."""
        found = {(piece.path, piece.row_group): piece for piece in row_groups}
        paths = [storage.filesystem(location, self.files.options)[1] for location in self.files.locations]
        counts = Counter(piece.path for piece in row_groups)
        ordered = []
        for path, location, sizes in zip(paths, self.files.locations, self.files.row_groups, strict=True):
            count = counts[path]
            if count != len(sizes):
                raise DataError(
                    f"{location} has {count} row groups instead of {len(sizes)}; publish the data set again"
                )
            ordered += [found[path, number] for number in range(len(sizes))]
        row_groups[:] = ordered
        return list(range(len(ordered))), None

    @property
    def ready(self) -> bool:
        """True if the next row group is there."""
        return self.pool.ready

    def _create_ventilator(self, *_: object) -> PlannedVentilator:
        return PlannedVentilator(self.pool.ventilate, self._plan, self._together, self._ahead)

    def _explained(self, error: Exception) -> DataError:
        for location in self.files.locations:
            file_system, path = storage.filesystem(location, self.files.options)
            try:
                with file_system.open(path, "rb") as file:
                    pq.read_metadata(file)
            except (OSError, pa.ArrowException) as found:
                first = (str(found).splitlines() or [""])[0]
                return DataError(
                    f"the shard {location} cannot be read ({first}); restore it or publish the data set again"
                )
        return DataError(f"the shards cannot be read: {error}")
