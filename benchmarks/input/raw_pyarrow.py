"""Yardstick: one thread of pyarrow that decodes row groups to Arrow, makes no tensor, and shuffles nothing.

`python -m benchmarks.input.raw_pyarrow --plain FILE --shards FILE… --columns NAME…` prints one line of JSON: rows per
second of the plain file, all columns of it, and of the stored shards (of the columns that training reads).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import pyarrow.parquet as pq


def scan(files: Sequence[str], columns: Sequence[str] | None = None) -> int:
    """Decode every row group of the files; return the rows."""
    rows, named = 0, None if columns is None else list(columns)
    for name in files:
        with pq.ParquetFile(name) as file:
            for number in range(file.num_row_groups):
                rows += file.read_row_group(number, columns=named, use_threads=False).num_rows
    return rows


def rows_per_second(once: Callable[[], int], rows: int) -> float:
    """Return the rate of a scan, repeated until it took `rows` rows, after one to warm up."""

    def repeated() -> Iterator[int]:
        done = 0
        while done < rows:
            found = once()
            done += found
            yield found

    once()
    began = time.perf_counter()
    done = sum(repeated())
    return done / (time.perf_counter() - began)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", required=True, metavar="FILE")
    parser.add_argument("--shards", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--columns", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--rows", type=int, required=True)
    arguments = parser.parse_args(argv)
    plain = rows_per_second(lambda: scan([arguments.plain]), arguments.rows)
    shards = rows_per_second(lambda: scan(arguments.shards, arguments.columns), arguments.rows)
    print(json.dumps({"pyarrow_plain": plain, "pyarrow_shards": shards}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
