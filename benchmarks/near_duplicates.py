"""Skewed data at full size through the near-duplicate finder: `python benchmarks/near_duplicates.py CASE [--texts
N]`.

On one core, in one block: sketches, LSH buckets, exact comparison. Prints a line of JSON with the processor seconds
of both, the peak memory before and after the comparison, and the counted work.
"""

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from etl.duplicates.connecting import Buckets
from etl.duplicates.large_buckets import connect_buckets
from etl.duplicates.minhash import Banding, sketch
from etl.duplicates.similarity import SimilarSets

BANDING = Banding(28, 5)


def words(rng: random.Random, count: int) -> list[str]:
    return [f"w{rng.randrange(50_000)}" for _ in range(count)]


def copies(rng: random.Random, count: int) -> Iterator[str]:
    """Yield exact copies of one text of 150 words."""
    text = " ".join(words(rng, 150))
    return (text for _ in range(count))


def near_copies(rng: random.Random, count: int, least: float, most: float) -> Iterator[str]:
    """Yield a text of 150 words, and copies with a share of `least` to `most` of its words edited."""
    text = words(rng, 150)
    yield " ".join(text)
    for _ in range(count - 1):
        places = set(rng.sample(range(150), round(150 * rng.uniform(least, most))))
        yield " ".join(f"e{rng.randrange(10**9)}" if i in places else word for i, word in enumerate(text))


def headed(rng: random.Random, count: int, least: int, most: int) -> Iterator[str]:
    """Yield texts that share a header of 130 words before `least` to `most` of their own."""
    header = words(rng, 130)
    return (" ".join(header + words(rng, rng.randint(least, most))) for _ in range(count))


CASES: dict[str, tuple[int, Callable[[random.Random, int], Iterable[str]]]] = {
    "copies": (50_000, copies),
    "copies-lightly-edited": (50_000, lambda rng, count: near_copies(rng, count, 0.005, 0.02)),
    "copies-edited": (50_000, lambda rng, count: near_copies(rng, count, 0.01, 0.15)),
    "header": (100_000, lambda rng, count: headed(rng, count, 50, 50)),
    "header-any-length": (100_000, lambda rng, count: headed(rng, count, 5, 60)),
}
"""By name: the number of texts, and their generator."""


def in_process(texts: Iterable[str]) -> dict[str, Any]:
    """Run the kernel and the comparison, as a Spark task does them for a block."""
    began = time.process_time()
    seen: set[bytes] = set()
    batches = list(texts)
    parts = [
        sketch(pa.array(batches[i : i + 1_000]), 5, BANDING, seen) for i in range(0, len(batches), 1_000)
    ]
    count = len(batches)
    del batches
    values = np.concatenate([part.values for part in parts])
    offsets = np.concatenate(([0], np.cumsum(np.concatenate([np.diff(part.offsets) for part in parts]))))
    offsets = np.unique(offsets)  # copies have no sketch
    keys = np.concatenate([part.bands for part in parts])
    del parts
    sketched, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sets = SimilarSets(values, offsets, 0.8)
    buckets = Buckets.of(keys.ravel(), np.repeat(np.arange(len(keys)), BANDING.bands))
    connect_buckets(sets, buckets)
    sizes = Counter(Counter(sets.labels.tolist()).values())
    return {
        "texts": count,
        "distinct": len(keys),
        "shingles": len(values),
        "memberships": len(buckets.members),
        "largest_bucket": int(np.max(buckets.sizes, initial=0)),
        "listed": sets.listed,
        "compared": sets.compared,
        "clusters": sum(sizes.values()),
        "largest_cluster": max(sizes),
        "sketch_seconds": round(sketched - began, 2),
        "connect_seconds": round(time.process_time() - sketched, 2),
        "peak_mb_before": before >> 10,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--texts", type=int, metavar="N", help="instead of the case's own number")
    arguments = parser.parse_args(argv)
    count, make = CASES[arguments.case]
    found = in_process(make(random.Random(1), arguments.texts or count))
    print(json.dumps({"case": arguments.case, **found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
