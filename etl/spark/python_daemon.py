"""Daemon from which a local master forks its Python workers: Spark's own, with our imports preloaded.

A worker of Spark's daemon imports what its first tasks need, and searches the archives on its path for every task,
since PySpark has all caches of imports renewed. With a local master the workers run in the driver's environment: what
they import can be imported once, and from the environment's folders instead of Spark's archives.
"""

import importlib
import importlib.util
import re
import sys

OF_TASKS = (
    "duplicates.sketching",
    "encoders.rows",
    "publication.shards",
    "rules.applying",
    "sources.reading",
)
"""Modules of `etl` whose functions are sent to workers."""
ARCHIVE = re.compile(r"/(pyspark|py4j-[\w.-]*)\.zip$")
LATE = ("pandas",)
"""Modules that pyarrow only imports when it is given a list."""


def without_archives() -> None:
    """Take Spark's archives off the path, where PySpark lies in the environment too."""
    archives = [path for path in sys.path if ARCHIVE.search(path)]
    before, sys.path[:] = list(sys.path), [path for path in sys.path if path not in archives]
    if any(importlib.util.find_spec(name) is None for name in ("pyspark", "py4j")):
        sys.path[:] = before
        return
    for archive in archives:
        sys.path_importer_cache.pop(archive, None)


def main() -> None:
    """Run until Spark ends it."""
    without_archives()
    daemon = importlib.import_module("pyspark.daemon")
    for module in (*(f"etl.{name}" for name in OF_TASKS), *LATE):
        importlib.import_module(module)
    daemon.manager()


if __name__ == "__main__":
    main()
