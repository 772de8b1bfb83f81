"""Other systems, one module each; each runs in an environment of its own, and so imports nothing of this product.

`python -m benchmarks.etl.peers.<name> --files FOLDER --work FOLDER --workers N` finds the near-duplicates in the
`part-*.jsonl` of a folder. It prints `{"event": "begin"}` once everything is imported, `{"event": "end"}` when the
clusters are known, and then writes `clusters.npz` into its working folder: `record`, the number in the id of each
record that is in a cluster, and `cluster`; both int64.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def arguments() -> argparse.Namespace:
    """Parse the flags that all peers share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--as-it-comes", action="store_true", help="with the peer's own tokens")
    return parser.parse_args()


def report(event: str) -> None:
    """Report the beginning or the end of the timed work to the measuring process."""
    print(json.dumps({"event": event}), flush=True)


def write(work: Path, cluster_of: Mapping[int, int]) -> None:
    """Write the clusters, by record."""
    records = np.fromiter(cluster_of.keys(), dtype=np.int64, count=len(cluster_of))
    clusters = np.fromiter(cluster_of.values(), dtype=np.int64, count=len(cluster_of))
    np.savez(work / "clusters.npz", record=records, cluster=clusters)
