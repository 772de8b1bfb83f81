"""Recall and pair precision of a system's clusters against the planted truth.

A true pair is one of `truth/pairs.parquet` whose exact Jaccard similarity reaches the threshold; it is found where
both records are in one cluster. Clusters are connected: so a pair of a found cluster is right where both records are
in the same connected component of true pairs, and wrong otherwise.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]


def judge(records: int, found: Mapping[str, Ints], truth: Path, similarity: float) -> dict[str, float | int]:
    """Judge clusters given as `record` and `cluster`; records that are not named are in no cluster.

    `recall`, `recall_exact` (similarity 1), `recall_near`, `precision` are shares of pairs; a share of nothing is 1.
    """
    pairs = pq.read_table(truth / "pairs.parquet", columns=["left", "right", "jaccard"])
    left, right, jaccard = (pairs[name].to_numpy() for name in pairs.column_names)
    labels = -1 - np.arange(records)  # everyone alone
    labels[found["record"]] = np.unique(found["cluster"], return_inverse=True)[1]
    true = jaccard >= similarity
    hit = labels[left] == labels[right]
    exact = jaccard == 1.0
    edges = (np.ones(int(true.sum()), dtype=np.int8), (left[true], right[true]))
    _, component = connected_components(coo_array(edges, shape=(records, records)), directed=False)
    _, cluster = np.unique(labels, return_inverse=True)
    both = np.unique(cluster * np.int64(records) + component, return_counts=True)[1]
    together, right_pairs = _pairs(np.bincount(cluster)), _pairs(both)
    return {
        "recall": _share(hit, true),
        "recall_exact": _share(hit, true & exact),
        "recall_near": _share(hit, true & ~exact),
        "precision": right_pairs / together if together else 1.0,
        "true_pairs": int(true.sum()),
        "pairs_found": together,
    }


def _share(hit: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]) -> float:
    return float(hit[of].mean()) if of.any() else 1.0


def _pairs(sizes: Ints) -> int:
    """Return the number of pairs in groups of these sizes."""
    return int((sizes.astype(np.int64) * (sizes.astype(np.int64) - 1) // 2).sum())


def summary(files: Path) -> dict[str, Any]:
    """Return the summary of a generated data set."""
    return dict(json.loads((files / "truth" / "summary.json").read_text(encoding="utf-8")))
