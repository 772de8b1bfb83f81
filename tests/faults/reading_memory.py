"""Memory of a task that reads hostile files: `python -m tests.faults.reading_memory FOLDER [images]`, a process apart.

Prints a line of JSON: MB of the process at the start and at most, and the outcomes of all files.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

from etl.sources.files import pieces
from etl.sources.reading import RECORD, Reader
from tests.etl.images import pictures
from tests.etl.sources.source_files import configuration
from tests.faults.hostile_files import sources

MOST = {"max_pixels": pictures.MOST_PIXELS}


def peak_mb() -> int:
    """Return the peak of this process; unlike ru_maxrss, it excludes the process that started this one."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) >> 10


def main(folder: Path, of_images: bool) -> None:
    if of_images:
        config = pictures.configuration(
            folder.parent, {"format": "images", "path": f"{folder}/*"}, image=MOST
        )
    else:
        config = configuration(folder.parent, sources(folder))
    listed = pieces.list_pieces(config)
    before, kinds = peak_mb(), Counter[int]()
    for batch in Reader(config).batches(0, listed):
        kinds.update(batch.column(0).to_pylist())
        del batch
    print(json.dumps({"before": before, "peak": peak_mb(), "records": kinds[RECORD], "files": len(listed)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "images" in sys.argv)
