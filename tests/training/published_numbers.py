"""A small published data set of numbers without a label, made without Spark."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from provenance.keys import key_sums, record_key
from schemas import config
from schemas import manifest as contract
from tests.training.published import Published, record_ids, seal, write_shard

FEATURES = ("price", "area", "rooms")
DATA = """
[dataset]
name = "synthetic"
root = "{root}"
[[source]]
format = "jsonl"
path = "{root}/in/*.jsonl"
[columns]
id = "id"
[deduplicate]
column = "remark"
[[feature]]
name = "price"
column = "price"
encode = "number"
[[feature]]
name = "area"
column = "area"
encode = "number"
[[feature]]
name = "rooms"
column = "rooms"
encode = "number"
[train]
epochs = 3
batch = 16
checkpoint_every = 5
streams = 8
window = 2
log_every = 4
runs = "{root}/runs"
"""
TRAINING = """
[objective]
kind = "copying"
[model]
kind = "bottleneck"
width = 1
[method]
kind = "noisy"
[optimizer]
kind = "momentum"
"""
"""Configuration for the kinds of docs/extending.md."""


def publish_numbers(root: Path, validation: tuple[int, ...] = (32, 9)) -> Published:
    """Publish rows of three numbers that one number determines, so that a narrow model can learn them."""
    random = np.random.default_rng(1)
    table = root / "synthetic" / "gold" / "shards"
    splits = {
        "train": _split(table, "train", [(32, 32, 32), (32, 32, 13)], random),
        "validation": _split(table, "validation", [validation] if validation else [], random),
        "test": _split(table, "test", [(20,)], random),
    }
    columns = [
        contract.Column(name="record_id", role="id", dtype="string", shape=[], storage="string"),
        contract.Column(name="record_key", role="key", dtype="uint64", shape=[2], storage=contract.FIXED),
    ]
    for name in FEATURES:
        columns.append(
            contract.Column(name=name, role="feature", dtype="float32", shape=[1], storage=contract.FIXED)
        )
    toml = root / "synthetic.toml"
    toml.write_text(DATA.format(root=root), encoding="utf-8")
    file = seal(root, config.load(toml), columns, [], splits)
    # This process does not know the kinds, but the training processes do.
    toml.write_text(DATA.format(root=root) + TRAINING, encoding="utf-8")
    return Published(toml, file, root)


def _split(
    table: Path, name: str, shards: list[tuple[int, ...]], random: np.random.Generator
) -> contract.SplitContent:
    files, keys = [], [np.zeros((0, 2), dtype=np.uint64)]
    for number, groups in enumerate(shards):
        ids = record_ids(name, number, sum(groups))
        one = random.normal(size=len(ids))
        numbers = [np.asarray(f, dtype="<f4")[:, None] for f in (one, -2 * one, np.tanh(one))]
        key = [record_key(each) for each in ids]
        rows = pa.table(
            {
                "record_id": pa.array(ids, pa.string()),
                "record_key": pa.array(key, pa.binary(16)),
                **{
                    feature: pa.array([row.tobytes() for row in values], pa.binary(4))
                    for feature, values in zip(FEATURES, numbers, strict=True)
                },
            }
        )
        keys.append(np.frombuffer(b"".join(key), dtype="<u8").reshape(-1, 2))
        files.append(write_shard(table, name, rows, groups, [keys[-1], *numbers]))
    sums = key_sums(np.concatenate(keys))
    count = sum(map(len, keys))
    return contract.SplitContent(
        rows=count, key_sums=sums, epoch_rows=count, epoch_key_sums=sums, label_counts={}, shards=files
    )
