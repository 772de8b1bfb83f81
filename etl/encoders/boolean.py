"""Yes and no, as float32: 1 and 0, and a mark where the value was missing."""

import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from common.storage import Storage
from etl.encoders.fixed import fixed_rows
from etl.encoders.scalars import MISSING
from schemas.config import canonical_json
from schemas.features.boolean import BooleanFeature

ARTIFACT = "statistics"


def fit(values: Iterable[str | None], feature: BooleanFeature, options: Storage) -> bytes:
    """Return the counts of each value in the training split, as JSON; `fill` replaces a missing value."""
    counts = Counter(values)  # which copies the counts where it is given a Counter
    true, false = counts["true"], counts["false"]
    fill = {"mode": true > false, "constant": feature.fill}.get(feature.missing)
    document = {
        "kind": "boolean",
        "rows": counts.total(),
        "missing": counts[None],
        "true": true,
        "false": false,
        "fill": fill,
    }
    return canonical_json(document) + b"\n"


def encode(values: pa.StringArray, artifact: bytes, feature: BooleanFeature) -> tuple[pa.Array, pa.Array]:
    """Return rows of float32, and the flags of each row."""
    fill = json.loads(artifact)["fill"]
    known = {"true": 1.0, "false": 0.0, None: float("nan") if fill is None else float(fill)}
    x = np.array([known[value] for value in values.to_pylist()], dtype=np.float64)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    columns = [x, missing] if feature.mark_missing else [x]
    return fixed_rows(np.stack(columns, axis=1).astype("<f4")), pa.array((missing * MISSING).astype(np.int32))


def dtype(feature: BooleanFeature) -> str:
    """Return numpy's name of the element type."""
    return "float32"


def shape(feature: BooleanFeature) -> list[int]:
    """Return one element for the value, and one for the missing mark where configured."""
    return [1 + feature.mark_missing]


def vocabulary(artifact: bytes) -> int | None:
    """Return None: the elements are numbers."""
    return None
