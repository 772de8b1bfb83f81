"""A small published data set of packed tokens, made without Spark: sentences that mostly follow one another."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from common.storage import Storage
from etl.encoders import packed_tokens
from etl.publication.balance import SplitPlan
from etl.publication.packing import DOCUMENTS_TYPE, PackedLayout, Packer
from provenance.keys import key_sums, record_keys
from schemas import config
from schemas import manifest as contract
from schemas.config import DOCUMENTS
from schemas.features.packed_tokens import PackedTokensFeature
from tests.training.published import Published, seal, write_shard

LENGTH = 32
CONFIGURATION = """
[dataset]
name = "synthetic"
root = "{root}"
[[source]]
format = "jsonl"
path = "{root}/in/*.jsonl"
[columns]
id = "id"
[[feature]]
name = "tokens"
column = "text"
encode = "packed_tokens"
vocabulary = 300
length = 32
[objective]
kind = "next_token"
prompts = 12
prompt_tokens = 8
continuation_tokens = 16
verbatim_words = 3
ngram_order = 3
[model]
kind = "transformer_decoder"
layers = 1
width = 32
heads = 2
dropout = 0.0
[optimizer]
kind = "adamw"
learning_rate = 1e-2
[train]
epochs = 2
batch = 8
checkpoint_every = 5
streams = 4
window = 2
log_every = 4
runs = "{root}/runs"
"""
SENTENCES = (
    "the licence is granted to all who ask.",
    "no warranty is given for any purpose.",
    "copies must keep this notice.",
    "the author is not liable.",
    "changes have to be named.",
)


def texts(split: str, count: int) -> list[tuple[str, str]]:
    """Return ids and texts: sentences in their order, from any of them on, one in four by chance."""
    random = np.random.default_rng(len(split))
    found = []
    for number in range(count):
        place, chosen = 0, list[str]()
        for _ in range(int(random.integers(1, 9))):
            by_chance = not chosen or random.random() < 0.25
            place = int(random.integers(len(SENTENCES))) if by_chance else (place + 1) % len(SENTENCES)
            chosen.append(SENTENCES[place])
        found.append((f"{split}-{number}", " ".join(chosen)))
    return found


def publish_tokens(
    root: Path,
    train: int = 120,
    validation: int = 12,
    test: int = 20,
    changed: Callable[[dict[str, contract.SplitContent]], None] = lambda splits: None,
) -> Published:
    """Write a data set of so many texts a split below `root`; `changed` gets the splits before they are sealed."""
    feature = PackedTokensFeature(
        name="tokens", column="text", encode="packed_tokens", vocabulary=300, length=LENGTH
    )
    split_texts = {"train": texts("train", train), "validation": texts("validation", validation)}
    split_texts["test"] = texts("test", test)
    tokenizer = packed_tokens.fit((text for _, text in split_texts["train"]), feature, Storage())
    sha256 = hashlib.sha256(tokenizer).hexdigest()
    artifacts = root / "synthetic" / "artifacts"
    artifacts.mkdir(parents=True)
    (artifacts / sha256).write_bytes(tokenizer)
    layout = PackedLayout.of(feature, 1)
    splits = {
        name: _split(root / "synthetic" / "gold" / "shards", name, of_split, tokenizer, feature, layout)
        for name, of_split in split_texts.items()
    }
    changed(splits)
    columns = [
        contract.Column(name="record_id", role="id", dtype="string", shape=[], storage="string"),
        contract.Column(name="record_key", role="key", dtype="uint64", shape=[2], storage=contract.FIXED),
        contract.Column(
            name="tokens",
            role="feature",
            dtype="uint16",
            shape=[LENGTH],
            storage=contract.FIXED,
            artifacts={"tokenizer": sha256},
            vocabulary=packed_tokens.vocabulary(tokenizer),
            separator=1,
        ),
        contract.Column(
            name=DOCUMENTS, role="documents", dtype="documents", shape=[], storage=str(DOCUMENTS_TYPE)
        ),
    ]
    toml = root / "synthetic.toml"
    toml.write_text(CONFIGURATION.format(root=root), encoding="utf-8")
    artifact = contract.Artifact(purpose="tokenizer", bytes=len(tokenizer), sha256=sha256)
    return Published(toml, seal(root, config.load(toml), columns, [artifact], splits), root)


def _split(
    table: Path,
    name: str,
    records: Sequence[tuple[str, str]],
    tokenizer: bytes,
    feature: PackedTokensFeature,
    layout: PackedLayout,
) -> contract.SplitContent:
    if not records:
        empty = layout.written(_rows([], tokenizer, feature, layout))
        return contract.SplitContent(
            rows=0,
            key_sums=(0, 0),
            label_counts={},
            epoch_rows=0,
            epoch_key_sums=(0, 0),
            shards=[],
            packing=empty,
        )
    rows = _rows(records, tokenizer, feature, layout)
    keys = record_keys(rows["record_id"].to_pylist())
    tokens = np.frombuffer(b"".join(rows["tokens"].to_pylist()), "<u2").reshape(-1, LENGTH)
    arrow = pa.table(
        {
            "record_id": rows["record_id"],
            "record_key": pa.array([key.tobytes() for key in keys], pa.binary(16)),
            "tokens": pa.array([row.tobytes() for row in tokens], pa.binary(2 * LENGTH)),
            DOCUMENTS: rows[DOCUMENTS],
        }
    )
    groups = [8] * (len(keys) // 8) + [len(keys) % 8] * (len(keys) % 8 > 0)
    shard = write_shard(table, name, arrow, groups, [keys, tokens])
    sums, packing = key_sums(keys), layout.written(rows)
    return contract.SplitContent(
        rows=len(keys),
        key_sums=sums,
        epoch_rows=len(keys),
        epoch_key_sums=sums,
        label_counts={},
        shards=[shard.model_copy(update={"records": packing.records})],
        packing=packing,
    )


def _rows(
    records: Sequence[tuple[str, str]], tokenizer: bytes, feature: PackedTokensFeature, layout: PackedLayout
) -> pa.Table:
    ids, counts, sizes = packed_tokens.encode(
        pa.array([text for _, text in records], pa.string()), tokenizer, feature
    )
    batch = pa.RecordBatch.from_pydict(
        {
            "record_id": pa.array([name for name, _ in records], pa.string()),
            "tokens": ids,
            "tokens_bytes": sizes,
        }
    )
    whole = int(np.sum(counts.to_numpy(zero_copy_only=False))) + len(records)
    rows = -(-whole // LENGTH)
    packer = Packer(layout, SplitPlan("any", (rows,), ((0, ""),), (0,)), 0)
    return pa.Table.from_batches([packer.add(batch), packer.finish()])
