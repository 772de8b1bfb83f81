"""A small published data set of gray images in two classes, made without Spark: a bright half, left or right."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from provenance.keys import key_sums, record_key
from schemas import config
from schemas import manifest as contract
from tests.training.published import Published, record_ids, seal, write_shard

SIDE = 8
CLASSES = ("left", "right")
SIZES = {"train": (64, 64), "validation": (40,), "test": (60,)}
IMAGES = """
[dataset]
name = "synthetic"
root = "{root}"
[[source]]
format = "csv"
path = "{root}/in/*.csv"
header = ["p{{0..63}}", "half"]
[source.pixels]
first = "p0"
height = 8
width = 8
[columns]
label = "half"
[[feature]]
name = "image"
column = "image"
encode = "image"
size = 8
channels = 1
[model]
kind = "cnn"
channels = [8]
[optimizer]
kind = "adamw"
learning_rate = 1e-2
[train]
epochs = 4
batch = 16
streams = 4
window = 2
runs = "{root}/runs"
"""


def publish_images(root: Path) -> Published:
    """Publish images whose halves differ by some 50 of 255 levels, less for some."""
    random = np.random.default_rng(4)
    artifacts = {
        "classes": json.dumps(list(CLASSES)).encode(),
        "statistics": json.dumps({"kind": "image", "rows": 1, "mean": [120.0], "deviation": [40.0]}).encode(),
    }
    folder = root / "synthetic" / "artifacts"
    folder.mkdir(parents=True)
    stored = []
    for purpose, content in artifacts.items():
        sha256 = hashlib.sha256(content).hexdigest()
        (folder / sha256).write_bytes(content)
        stored.append(contract.Artifact(purpose=purpose, bytes=len(content), sha256=sha256))
    splits = {name: _split(root / "synthetic" / "gold" / "shards", name, random) for name in SIZES}
    columns = [
        contract.Column(name="record_id", role="id", dtype="string", shape=[], storage="string"),
        contract.Column(name="record_key", role="key", dtype="uint64", shape=[2], storage=contract.FIXED),
        contract.Column(
            name="label_index",
            role="label",
            dtype="int32",
            shape=[],
            storage="int32",
            artifacts={"classes": stored[0].sha256},
        ),
        contract.Column(
            name="image",
            role="feature",
            dtype="uint8",
            shape=[SIDE, SIDE, 1],
            storage=contract.FIXED,
            artifacts={"statistics": stored[1].sha256},
        ),
    ]
    toml = root / "synthetic.toml"
    toml.write_text(IMAGES.format(root=root), encoding="utf-8")
    return Published(toml, seal(root, config.load(toml), columns, stored, splits), root)


def _split(table: Path, name: str, random: np.random.Generator) -> contract.SplitContent:
    rows = sum(SIZES[name])
    ids = record_ids(name, 0, rows)
    key = [record_key(one) for one in ids]
    keys = np.frombuffer(b"".join(key), dtype="<u8").reshape(-1, 2)
    labels = random.integers(0, 2, rows).astype(np.int32)
    levels = random.normal(120, 20, (rows, SIDE, SIDE, 1))
    contrast = random.uniform(5, 95, (rows, 1, 1, 1))
    levels += np.where(np.arange(SIDE)[None, None, :, None] // 4 == labels[:, None, None, None], contrast, 0)
    pixels = levels.clip(0, 255).astype(np.uint8)
    arrow: dict[str, Any] = {
        "record_id": pa.array(ids, pa.string()),
        "record_key": pa.array(key, pa.binary(16)),
        "label_index": pa.array(labels, pa.int32()),
        "image": pa.array([row.tobytes() for row in pixels], pa.binary(SIDE * SIDE)),
    }
    shard = write_shard(table, name, pa.table(arrow), SIZES[name], [keys, labels, pixels])
    sums = key_sums(keys)
    return contract.SplitContent(
        rows=rows,
        key_sums=sums,
        epoch_rows=rows,
        epoch_key_sums=sums,
        label_counts={one: int((labels == place).sum()) for place, one in enumerate(CLASSES)},
        shards=[shard],
    )
