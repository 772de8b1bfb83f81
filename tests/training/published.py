"""A small published data set made without Spark: shards, artifacts and a sealed manifest, as training reads them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from etl.publication import class_balance
from etl.publication.parquet_bytes import written_as
from provenance import merkle
from provenance.checksums import row_group_crc32
from provenance.keys import key_sums, record_key
from schemas import config
from schemas import manifest as contract

LENGTH = 16
VOCABULARY = 300
CLASSES = ("alpha", "beta", "gamma")

CONFIGURATION = """
[dataset]
name = "synthetic"
root = "{root}"
[[source]]
format = "jsonl"
path = "{root}/in/*.jsonl"
[columns]
id = "id"
label = "label"
[[feature]]
name = "tokens"
column = "text"
encode = "tokens"
vocabulary = {vocabulary}
length = {length}
[publish]
rows_per_group = {rows_per_group}
[balance]
{balance}
[model]
kind = "transformer_classifier"
layers = 1
width = {width}
heads = 4
[optimizer]
kind = "adamw"
learning_rate = 3e-3
[train]
epochs = 2
batch = 16
checkpoint_every = 5
streams = 8
window = 2
log_every = 4
runs = "{root}/runs"
{where}
"""


@dataclass(frozen=True)
class Published:
    """Location of a synthetic data set."""

    config: Path
    manifest: Path
    root: Path

    def load(self) -> contract.Manifest:
        return contract.load(str(self.manifest))

    def shard(self, split: str = "train", number: int = 0) -> Path:
        """Return the file of one shard."""
        loaded = self.load()
        return Path(loaded.shard_uri(loaded.splits[split].shards[number]))


def publish(
    root: Path,
    train: Sequence[Sequence[int]] = ((32, 32, 32), (32, 32, 13)),
    validation: Sequence[Sequence[int]] = ((32, 9),),
    test: Sequence[Sequence[int]] = ((20,),),
    length: int = LENGTH,
    vocabulary: int = VOCABULARY,
    width: int = 16,
    dtype: str = "uint16",
    seed: int = 1,
    full: bool = False,
    balance: str = "",
    chances: Sequence[float] | None = None,
    where: str = "",
    tokenizer: bytes = b"",
) -> Published:
    """Write a data set below `root`; each split is given as the rows of the row groups of its shards.

    A text's class shows in its tokens, so that a model can learn it. Texts have any length up to `length`, or with
    `full` exactly that. `balance` holds the keys of that section, `where` the line of `train.where`; `chances`
    are those of the classes, by default all equal. `tokenizer` is the content of the feature's artifact.
    """
    random = np.random.default_rng(seed)
    table = root / "synthetic" / "gold" / "shards"
    artifacts = root / "synthetic" / "artifacts"
    artifacts.mkdir(parents=True)
    classes = json.dumps(list(CLASSES)).encode()
    sha256 = hashlib.sha256(classes).hexdigest()
    (artifacts / sha256).write_bytes(classes)
    stored = [contract.Artifact(purpose="classes", bytes=len(classes), sha256=sha256)]
    of_tokens = {}
    if tokenizer:
        of_tokens["tokenizer"] = hashlib.sha256(tokenizer).hexdigest()
        (artifacts / of_tokens["tokenizer"]).write_bytes(tokenizer)
        stored.append(
            contract.Artifact(purpose="tokenizer", bytes=len(tokenizer), sha256=of_tokens["tokenizer"])
        )
    splits = {}
    for name, shards in (("train", train), ("validation", validation), ("test", test)):
        splits[name] = _split(table, name, shards, random, length, vocabulary, dtype, full, chances)
    columns = [
        contract.Column(name="record_id", role="id", dtype="string", shape=[], storage="string"),
        contract.Column(name="record_key", role="key", dtype="uint64", shape=[2], storage=contract.FIXED),
        contract.Column(
            name="label_index",
            role="label",
            dtype="int32",
            shape=[],
            storage="int32",
            artifacts={"classes": sha256},
        ),
        contract.Column(
            name="tokens",
            role="feature",
            dtype=dtype,
            shape=[length],
            storage=contract.FIXED,
            artifacts=of_tokens,
            vocabulary=vocabulary,
        ),
    ]
    rows_per_group = max(rows for shard in train for rows in shard)
    toml = root / "synthetic.toml"
    toml.write_text(
        CONFIGURATION.format(
            root=root,
            length=length,
            vocabulary=vocabulary,
            width=width,
            rows_per_group=rows_per_group,
            balance=balance,
            where=where,
        ),
        encoding="utf-8",
    )
    configuration = config.load(toml)
    splits["train"] = _balanced(splits["train"], table, configuration)
    return Published(toml, seal(root, configuration, columns, stored, splits), root)


def seal(
    root: Path,
    configuration: config.Configuration,
    columns: list[contract.Column],
    artifacts: list[contract.Artifact],
    splits: dict[str, contract.SplitContent],
) -> Path:
    """Write the manifest of the data set `synthetic` below `root`, as its version 0."""
    rows = sum(split.rows for split in splits.values())
    content = contract.Content(
        dataset="synthetic",
        configuration=configuration.data_sections(),
        columns=columns,
        schema_fingerprint="0" * 64,
        counts={
            "records_in": rows + 5,
            "quarantined": 1,
            "filtered": 1,
            "exact_duplicates": 2,
            "near_duplicates": 1,
            "published": rows,
        },
        sources=contract.Sources(files=0, bytes=0, root=merkle.root([]).hex(), inline=[], list_sha256=None),
        artifacts=artifacts,
        splits=splits,
    )
    provenance = contract.Provenance(
        created="2026-01-01T00:00:00Z",
        host="localhost",
        user="tests",
        command="tests",
        code_version="0",
        configuration_sha256="0" * 64,
        spark_version="none",
        seconds=1.5,
        bronze_versions={},
        silver_versions={},
    )
    sealed = contract.Manifest.seal(content, provenance, 0, str(root / "synthetic"))
    folder = root / "synthetic" / "manifests"
    folder.mkdir()
    file = folder / contract.name_of(0, sealed.manifest_root)
    file.write_bytes(sealed.to_json())
    return file


def publish_again(published: Published) -> contract.Manifest:
    """Publish version 1 of the same shards, with another root since one more record was read; return its manifest."""
    first = published.load()
    counts = {
        **first.content.counts,
        "records_in": first.content.counts["records_in"] + 1,
        "quarantined": first.content.counts["quarantined"] + 1,
    }
    content = first.content.model_copy(update={"counts": counts})
    second = contract.Manifest.seal(content, first.provenance, 1, first.dataset_uri)
    file = published.manifest.with_name(contract.name_of(1, second.manifest_root))
    file.write_bytes(second.to_json())
    return second


def record_ids(name: str, shard: int, rows: int) -> list[str]:
    """Return the ids of the rows of a shard, in the order of the file."""
    return [f"{name}-{shard}-{row}" for row in range(rows)]


def _split(
    table: Path,
    name: str,
    shards: Sequence[Sequence[int]],
    random: np.random.Generator,
    length: int,
    vocabulary: int,
    dtype: str,
    full: bool,
    chances: Sequence[float] | None,
) -> contract.SplitContent:
    files, keys, labels = [], [np.zeros((0, 2), dtype=np.uint64)], [np.zeros(0, dtype=np.int32)]
    for number, groups in enumerate(shards):
        rows = sum(groups)
        ids = record_ids(name, number, rows)
        if chances is None:
            label = random.integers(0, len(CLASSES), rows).astype(np.int32)
        else:
            label = random.choice(len(CLASSES), rows, p=chances).astype(np.int32)
        # Class c prefers its own third of the vocabulary; 0 is the padding.
        third = (vocabulary - 1) // len(CLASSES)
        own = 1 + label[:, None] * third + random.integers(0, third, (rows, length))
        common = random.integers(1, vocabulary, (rows, length))
        tokens = np.where(random.random((rows, length)) < 0.4, own, common)
        if not full:
            lengths = random.integers(1, length + 1, rows)
            tokens[np.arange(length) >= lengths[:, None]] = 0
        tokens = tokens.astype(np.dtype(dtype).newbyteorder("<"))
        key = [record_key(one) for one in ids]
        arrow = pa.table(
            {
                "record_id": pa.array(ids, pa.string()),
                "record_key": pa.array(key, pa.binary(16)),
                "label_index": pa.array(label, pa.int32()),
                "tokens": pa.array([row.tobytes() for row in tokens], pa.binary(tokens[0].nbytes)),
            }
        )
        keys_of_shard = np.frombuffer(b"".join(key), dtype="<u8").reshape(-1, 2)
        files.append(write_shard(table, name, arrow, groups, [keys_of_shard, label, tokens]))
        keys.append(keys_of_shard)
        labels.append(label)
    all_labels = np.concatenate(labels)
    sums = key_sums(np.concatenate(keys))
    return contract.SplitContent(
        rows=len(all_labels),
        key_sums=sums,
        epoch_rows=len(all_labels),
        epoch_key_sums=sums,
        label_counts={c: int((all_labels == i).sum()) for i, c in enumerate(CLASSES)},
        shards=files,
    )


def write_shard(
    table: Path,
    split: str,
    rows: pa.Table,
    groups: Sequence[int],
    hashed: Sequence[npt.NDArray[Any]],
) -> contract.Shard:
    """Write a shard with row groups of the given sizes; `hashed` are the columns covered by the CRC-32."""
    folder = table / split
    folder.mkdir(parents=True, exist_ok=True)
    attempt, checksums, at = folder / "shard.part", [], 0
    rows = rows.cast(pa.schema([part.with_nullable(False) for part in rows.schema]))
    options = written_as(rows.schema, max(groups, default=1))
    with pq.ParquetWriter(attempt, rows.schema, **options, use_dictionary=False) as writer:
        for size in groups:
            writer.write_table(rows.slice(at, size), row_group_size=size)
            checksums.append(row_group_crc32([column[at : at + size] for column in hashed]))
            at += size
    content = attempt.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    attempt.rename(folder / f"{sha256}.parquet")
    return contract.Shard(
        path=f"{split}/{sha256}.parquet",
        bytes=len(content),
        rows=at,
        row_groups=list(groups),
        row_group_crc32=checksums,
        sha256=sha256,
    )


def _balanced(
    split: contract.SplitContent, table: Path, configuration: config.Configuration
) -> contract.SplitContent:
    """Apply the policy to a split; the contents are read back from the files."""
    if taken := configuration.train.classes_taken():
        balance = class_balance.taking(split.label_counts, taken)
    else:
        balance = class_balance.balanced(split.label_counts, configuration.balance)
    if not balance.repeats:
        return split.model_copy(update={"balance": balance})
    shards, ids = [], []
    for shard in split.shards:
        file, groups = pq.ParquetFile(table / shard.path), []
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, columns=["record_id", "label_index"]).to_pylist()
            taken = [
                row["record_id"] for row in rows for _ in range(balance.repeats[CLASSES[row["label_index"]]])
            ]
            groups.append(len(taken))
            ids += taken
        shards.append(shard.model_copy(update={"epoch_row_groups": groups}))
    keys = np.frombuffer(b"".join(map(record_key, ids)), dtype="<u8").reshape(-1, 2)
    update = {"balance": balance, "epoch_rows": len(ids), "epoch_key_sums": key_sums(keys), "shards": shards}
    return split.model_copy(update=update)
