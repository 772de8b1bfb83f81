"""text-dedup's MinHash command, at threshold 0.8 with its 250 permutations, its faster hash, and no shortest length.

Its tokens are what stands between single characters that are no `\\w`, in lower case, so that an empty token stands
between a comma and a space; nothing in its settings changes that.
"""

import os
import pickle
import shutil
from pathlib import Path

from benchmarks.etl.peers import arguments, report, write


def flags(files: Path, work: Path, workers: int) -> list[str]:
    """Return the flags of its command line."""
    values = {
        "path": "json",
        "data_files": str(files / "part-*.jsonl"),
        "split": "train",
        "cache_dir": str(work / "cache"),
        "output": str(work / "output"),
        "column": "text",
        "idx_column": "id",
        "batch_size": 10_000,
        "num_proc": workers,
        "ngram": 5,
        "min_length": 1,
        "threshold": 0.8,
        "hash_func": "xxh3",
    }
    return [*(part for name, value in values.items() for part in (f"--{name}", str(value))), "--debug"]


def clusters_of(work: Path) -> dict[int, int]:
    """Return the cluster of each record that is in one."""
    with (work / "output" / "uf.pkl").open("rb") as file:
        found = pickle.load(file)
    return {int(record): int(found.find(record)) for record in list(found.parent)}


def main() -> None:
    given = arguments()
    work = given.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.environ["HF_HOME"] = str(work / "home")  # it would take its cached results for those of the next run
    from text_dedup import minhash  # type: ignore[import-not-found]

    report("begin")
    minhash.main(flags(given.files.resolve(), work, given.workers), standalone_mode=False)
    report("end")
    write(work, clusters_of(work))


if __name__ == "__main__":
    main()
