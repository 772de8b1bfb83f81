"""Category names, as int32 codes: 1 for the most frequent in the training split, 2 the next, …; 0 for others."""

import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from common.storage import Storage
from etl.encoders.fixed import fixed_rows
from etl.encoders.scalars import MISSING
from schemas.config import canonical_json
from schemas.features.category import CategoryFeature

ARTIFACT = "categories"

OTHER = 0


def fit(values: Iterable[str | None], feature: CategoryFeature, options: Storage) -> bytes:
    """Return the names with codes, in code order, with their rows, as JSON; `fill` is the code of missing values."""
    counts = Counter(values)  # which copies the counts where it is given a Counter
    missing = counts.pop(None, 0)
    frequent = sorted(
        (name for name, count in counts.items() if name is not None and count >= feature.min_count),
        key=lambda name: (-counts[name], name),
    )[: feature.most]
    document = {
        "kind": "category",
        "rows": counts.total() + missing,
        "missing": missing,
        "names": frequent,
        "counts": [counts[name] for name in frequent],
        "other": counts.total() - sum(counts[name] for name in frequent),
        "fill": 1 if feature.missing == "mode" and frequent else OTHER,
    }
    return canonical_json(document) + b"\n"


def encode(values: pa.StringArray, artifact: bytes, feature: CategoryFeature) -> tuple[pa.Array, pa.Array]:
    """Return rows of one int32 code, and the flags of each row."""
    learned = json.loads(artifact)
    codes: dict[str | None, int] = {name: place for place, name in enumerate(learned["names"], start=1)}
    codes[None] = learned["fill"]
    found = np.array([codes.get(value, OTHER) for value in values.to_pylist()], dtype="<i4")
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return fixed_rows(found.reshape(-1, 1)), pa.array((missing * MISSING).astype(np.int32))


def dtype(feature: CategoryFeature) -> str:
    """Return numpy's name of the type of a code."""
    return "int32"


def shape(feature: CategoryFeature) -> list[int]:
    """Return one code."""
    return [1]


def vocabulary(artifact: bytes) -> int | None:
    """Return the number of codes, 0 included."""
    return len(json.loads(artifact)["names"]) + 1
