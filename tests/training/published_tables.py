"""A small published data set of numbers and a category, with and without labels, made without Spark."""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.encoders import category, number
from etl.publication import class_balance
from provenance.keys import key_sums, record_key
from schemas import config
from schemas import manifest as contract
from schemas.class_balance import ClassBalance
from tests.training.published import Published, record_ids, seal, write_shard

NUMBERS = ("a", "b", "c", "d")
CLASSES = ("fault", "normal", "odd")
TOWNS = ("Basel", "Bern", "Chur")
SIZES = {"train": ((64, 64, 64), (64, 40)), "validation": ((96, 30),), "test": ((100, 64),)}
TABLE = """
[dataset]
name = "synthetic"
root = "{root}"
[[source]]
format = "csv"
path = "{root}/in/*.csv"
[columns]
id = "id"
{label}
[[feature]]
name = "a"
column = "a"
encode = "number"
scale = "standard"
[[feature]]
name = "b"
column = "b"
encode = "number"
scale = "standard"
[[feature]]
name = "c"
column = "c"
encode = "number"
scale = "standard"
[[feature]]
name = "d"
column = "d"
encode = "number"
scale = "{scale}"
[[feature]]
name = "town"
column = "town"
encode = "category"
[optimizer]
kind = "adamw"
learning_rate = 1e-2
[train]
epochs = 12
batch = 32
streams = 4
window = 2
runs = "{root}/runs"
{where}
{training}
"""


def publish_table(
    root: Path,
    training: str,
    labelled: bool = True,
    where: str = "",
    scale: str = "standard",
    anomalies: float = 0.1,
) -> Published:
    """Publish rows of four numbers that two numbers and a town determine, but for anomalies, which are off.

    `training` holds the sections of the objective and the model, `where` the line of `train.where`; `anomalies` is
    their share, half of them of each class.
    """
    random = np.random.default_rng(3)
    label = 'label = "kind"' if labelled else ""
    toml = root / "synthetic.toml"
    root.mkdir(parents=True, exist_ok=True)
    toml.write_text(
        TABLE.format(root=root, label=label, scale=scale, where=where, training=training), encoding="utf-8"
    )
    configuration = config.load(toml)
    raw = {name: _rows(sum(map(sum, shards)), anomalies, random) for name, shards in SIZES.items()}
    artifacts = {"classes": json.dumps(list(CLASSES)).encode()} if labelled else {}
    encoded: dict[str, dict[str, list[bytes]]] = {name: {} for name in SIZES}
    for feature in configuration.feature:
        encoder = category if feature.encode == "category" else number
        artifacts[feature.name] = encoder.fit(raw["train"][feature.name], feature, configuration.storage)
        for name in SIZES:
            values = pa.array(raw[name][feature.name], pa.string())
            encoded[name][feature.name] = encoder.encode(values, artifacts[feature.name], feature)[
                0
            ].to_pylist()
    stored = [_store(root, name, content) for name, content in artifacts.items()]
    hashes = {name: one.sha256 for name, one in zip(artifacts, stored, strict=True)}
    table = root / "synthetic" / "gold" / "shards"
    splits = {
        name: _split(table, name, raw[name]["kind"] if labelled else None, encoded[name]) for name in SIZES
    }
    if taken := configuration.train.classes_taken():
        splits["train"] = _taking(splits["train"], raw["train"]["kind"], taken)
    columns = [
        contract.Column(name="record_id", role="id", dtype="string", shape=[], storage="string"),
        contract.Column(name="record_key", role="key", dtype="uint64", shape=[2], storage=contract.FIXED),
    ]
    if labelled:
        columns.append(
            contract.Column(
                name="label_index",
                role="label",
                dtype="int32",
                shape=[],
                storage="int32",
                artifacts={"classes": hashes["classes"]},
            )
        )
    for feature in configuration.feature:
        of_names = feature.encode == "category"
        columns.append(
            contract.Column(
                name=feature.name,
                role="feature",
                dtype="int32" if of_names else "float32",
                shape=[1],
                storage=contract.FIXED,
                artifacts={"categories" if of_names else "statistics": hashes[feature.name]},
                vocabulary=len(TOWNS) + 1 if of_names else None,
            )
        )
    return Published(toml, seal(root, configuration, columns, stored, splits), root)


def _rows(count: int, anomalies: float, random: np.random.Generator) -> dict[str, list[str]]:
    one, two = random.normal(size=count), random.normal(size=count)
    town = random.integers(0, len(TOWNS), count)
    numbers = np.stack([one, two, one + two, 10 + 3 * one - two + 2 * town], axis=1)
    odd = random.random(count) < anomalies
    numbers[odd] += random.choice([-4.0, 4.0], size=(int(odd.sum()), len(NUMBERS)))
    kinds = np.where(odd, np.where(random.random(count) < 0.5, "fault", "odd"), "normal")
    found = {name: [repr(float(x)) for x in numbers[:, place]] for place, name in enumerate(NUMBERS)}
    return {**found, "town": [TOWNS[each] for each in town], "kind": kinds.tolist()}


def _store(root: Path, name: str, content: bytes) -> contract.Artifact:
    folder = root / "synthetic" / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / sha256).write_bytes(content)
    purpose = "classes" if name == "classes" else "categories" if name == "town" else "statistics"
    return contract.Artifact(purpose=purpose, bytes=len(content), sha256=sha256)


def _split(
    table: Path, name: str, kinds: list[str] | None, encoded: dict[str, list[bytes]]
) -> contract.SplitContent:
    files, keys, at = [], [np.zeros((0, 2), dtype=np.uint64)], 0
    for number_of, groups in enumerate(SIZES[name]):
        ids = record_ids(name, number_of, sum(groups))
        here = slice(at, at + len(ids))
        at += len(ids)
        key = [record_key(one) for one in ids]
        keys.append(np.frombuffer(b"".join(key), dtype="<u8").reshape(-1, 2))
        rows = {"record_id": pa.array(ids, pa.string()), "record_key": pa.array(key, pa.binary(16))}
        hashed: list[npt.NDArray[Any]] = [keys[-1]]
        if kinds is not None:
            hashed.append(np.array([CLASSES.index(kind) for kind in kinds[here]], np.int32))
            rows["label_index"] = pa.array(hashed[-1], pa.int32())
        for feature, values in encoded.items():
            rows[feature] = pa.array(values[here], pa.binary(4))
            hashed.append(np.frombuffer(b"".join(values[here]), "<u4"))
        files.append(write_shard(table, name, pa.table(rows), groups, hashed))
    sums = key_sums(np.concatenate(keys))
    counts = {} if kinds is None else {one: kinds.count(one) for one in CLASSES}
    return contract.SplitContent(
        rows=at, key_sums=sums, epoch_rows=at, epoch_key_sums=sums, label_counts=counts, shards=files
    )


def _taking(split: contract.SplitContent, kinds: list[str], taken: list[str]) -> contract.SplitContent:
    """Apply `train.where` to the training split."""
    balance: ClassBalance = class_balance.taking(split.label_counts, taken)
    shards, ids, left = [], list[str](), iter(kinds)
    for number_of, shard in enumerate(split.shards):
        names, groups = iter(record_ids("train", number_of, shard.rows)), list[int]()
        for rows in shard.row_groups:
            here = zip(itertools.islice(names, rows), itertools.islice(left, rows), strict=True)
            mine = [one for one, kind in here if kind in taken]
            ids += mine
            groups.append(len(mine))
        shards.append(shard.model_copy(update={"epoch_row_groups": groups}))
    keys = np.frombuffer(b"".join(map(record_key, ids)), dtype="<u8").reshape(-1, 2)
    update = {"balance": balance, "epoch_rows": len(ids), "epoch_key_sums": key_sums(keys), "shards": shards}
    return split.model_copy(update=update)
