"""Rows that all loaders read: generated ones, or those of a published data set, in a folder of their own.

Such a folder holds `rows.npy` ((N, *shape), in the dtype of its kind), `keys.npy` ((N, 2) uint64, the record keys),
`plain.parquet` (the rows as users of pyarrow would store them), `set.json`, and one folder for each peer with its own
format. A row's number is its place in `rows.npy`; in the copies for other libraries it takes the place of a label, so
that checking which rows were delivered costs nothing extra.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.input.kinds import TOKENS, Kind, Values
from etl.publication.balance import shard_rows
from etl.publication.shards import ShardWriter, shard_schema
from provenance import merkle
from provenance.keys import record_key
from schemas import config
from schemas import manifest as contract
from schemas.settings import Train
from schemas.tables import Layout
from training.input.batch_loader import BatchLoader
from training.parallel.world import World

Keys = npt.NDArray[np.uint64]

CLASSES = 9
SHARDS = 8
PLAIN_ROWS_PER_GROUP = 4096
"""Row group size of `plain.parquet`: of five from 512 to 131,072, the one that pyarrow scanned fastest."""
PLAIN_GROUP_BYTES = 4 << 20
"""Bytes of its row groups where rows are wide."""

CONFIGURATION = """
[dataset]
name = "generated"
root = {root}
[[source]]
format = "jsonl"
path = "none.jsonl"
[columns]
label = "label"
{features}
[publish]
rows_per_group = {rows_per_group}
[model]
kind = "transformer_classifier"
[optimizer]
kind = "adamw"
"""


@dataclass(frozen=True)
class DataSet:
    """Content of `set.json`. `manifests` is by variant of storage: the location of the manifest, and the split."""

    name: str
    rows: int
    manifests: Mapping[str, str]
    split: str

    @classmethod
    def load(cls, folder: Path) -> "DataSet":
        return cls(**json.loads((folder / "set.json").read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        (folder / "set.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def generate(
    folder: Path,
    rows: int,
    variants: Mapping[str, int] | None = None,
    shards: int = SHARDS,
    seed: int = 0,
    kind: Kind = TOKENS,
) -> DataSet:
    """Write generated rows; `variants` is the rows of a row group by the name of the variant, default the kind's."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = kind.draw(rows, seed)
    ids = [f"row-{number}" for number in range(rows)]
    manifests = {
        name: str(publish(folder / name, ids, drawn, rows_per_group, shards, seed, kind))
        for name, rows_per_group in (variants or kind.variants).items()
    }
    keys = np.frombuffer(b"".join(map(record_key, ids)), dtype="<u8").reshape(-1, 2)
    found = DataSet(folder.name, rows, manifests, "train")
    _write(folder, drawn, keys, found)
    return found


def take(folder: Path, manifest_location: str, split: str = "train") -> DataSet:
    """Copy the rows of a published data set, through the product's own reader, in the order of their keys."""
    manifest = contract.load(manifest_location)
    settings = Train(streams=1, window=1, batch=4096)
    found, keys = [], []
    with BatchLoader(manifest, split, settings, World(0, 1)) as loader:
        for batch in loader:
            (feature,) = batch.features.values()
            found.append(feature.numpy().astype(np.uint16))
            keys.append(np.array(batch.keys))
    all_keys = np.concatenate(keys)
    order = np.lexsort((all_keys[:, 1], all_keys[:, 0]))
    folder.mkdir(parents=True, exist_ok=True)
    data = DataSet(folder.name, len(order), {"published": str(Path(manifest_location).resolve())}, split)
    _write(folder, np.concatenate(found)[order], all_keys[order], data)
    return data


def publish(
    folder: Path,
    ids: Sequence[str],
    drawn: Values,
    rows_per_group: int,
    shards: int,
    seed: int,
    kind: Kind,
) -> Path:
    """Write shards with the product's writer, and seal a manifest over them; return its location."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    toml = folder / "configuration.toml"
    names = names_of(kind)
    features = [f'[[feature]]\nname = "{name}"\ncolumn = "{name}"\n{kind.feature}' for name in names]
    toml.write_text(
        CONFIGURATION.format(
            root=json.dumps(str(folder)), features="\n".join(features), rows_per_group=rows_per_group
        ),
        encoding="utf-8",
    )
    configuration = config.load(toml)
    schema = shard_schema(configuration)
    labels = np.random.default_rng(seed + 1).integers(0, CLASSES, len(ids)).astype(np.int32)
    table = Layout(str(folder.resolve())).shards
    written, first = [], 0
    for number, rows in enumerate(shard_rows(len(ids), shards, rows_per_group)):
        writer = ShardWriter("train", number, schema, rows_per_group, table, configuration.storage)
        part = slice(first, first + rows)
        parts = np.split(drawn[part], len(names), axis=1) if kind.features > 1 else [drawn[part]]
        writer.add(
            pa.RecordBatch.from_pydict(
                {
                    "record_id": pa.array(ids[part], pa.string()),
                    "order_key": pa.array(np.arange(first, first + rows)),
                    "label_index": pa.array(labels[part]),
                    # As the encoder hands them to the writer, whatever the writer makes of them.
                    **{
                        name: pa.array([row.tobytes() for row in values], pa.binary())
                        for name, values in zip(names, parts, strict=True)
                    },
                }
            )
        )
        written.append(writer.close())
        first += rows
    sealed = _sealed(configuration, schema, written, labels, folder, kind)
    location = folder / "manifests" / "manifest.json"
    location.parent.mkdir()
    location.write_bytes(sealed.to_json())
    return location.resolve()


def _sealed(
    configuration: config.Configuration,
    schema: pa.Schema,
    written: Sequence[Mapping[str, Any]],
    labels: npt.NDArray[np.int32],
    folder: Path,
    kind: Kind,
) -> contract.Manifest:
    shape = list(kind.shape) if kind.features == 1 else [1]

    def column(name: str, role: Any, dtype: str, shape: list[int], vocabulary: int | None = None) -> Any:
        stored = str(schema.field(name).type).split("[")[0]
        return contract.Column(
            name=name, role=role, dtype=dtype, shape=shape, storage=stored, vocabulary=vocabulary
        )

    rows = len(labels)
    sums = [sum(int(shard["key_sums"][half]) for shard in written) % 2**64 for half in (0, 1)]
    split = contract.SplitContent(
        rows=rows,
        key_sums=(sums[0], sums[1]),
        label_counts={str(label): int((labels == label).sum()) for label in range(CLASSES)},
        epoch_rows=rows,
        epoch_key_sums=(sums[0], sums[1]),
        shards=[
            contract.Shard(**{name: shard.get(name) for name in contract.Shard.model_fields})
            for shard in written
        ],
    )
    counts = dict.fromkeys(("quarantined", "filtered", "exact_duplicates", "near_duplicates"), 0)
    content = contract.Content(
        dataset=configuration.dataset.name,
        configuration=configuration.data_sections(),
        columns=[
            column("record_id", "id", "string", []),
            column("record_key", "key", "uint64", [2]),
            column("label_index", "label", "int32", []),
            *(column(name, "feature", kind.dtype, shape, kind.vocabulary) for name in names_of(kind)),
        ],
        schema_fingerprint=hashlib.sha256(str(schema).encode()).hexdigest(),
        counts={"records_in": rows, "published": rows, **counts},
        sources=contract.Sources(files=0, bytes=0, root=merkle.root([]).hex(), inline=[], list_sha256=None),
        artifacts=[],
        splits={"train": split},
    )
    provenance = contract.Provenance(
        created="1970-01-01T00:00:00Z",
        host="localhost",
        user="benchmark",
        command="benchmarks.input.generate",
        code_version="0",
        configuration_sha256="0" * 64,
        spark_version="none",
        seconds=0.0,
        bronze_versions={},
        silver_versions={},
    )
    return contract.Manifest.seal(content, provenance, 0, str(folder.resolve()))


def names_of(kind: Kind) -> list[str]:
    """Return the names of its features."""
    return ["values"] if kind.features == 1 else [f"c{number:02d}" for number in range(kind.features)]


def _write(folder: Path, drawn: Values, keys: Keys, data: DataSet) -> None:
    np.save(folder / "rows.npy", drawn)
    np.save(folder / "keys.npy", keys)
    width = drawn[0].nbytes
    pq.write_table(
        pa.table({**plain(drawn), "number": pa.array(np.arange(len(drawn), dtype=np.int32))}),
        folder / "plain.parquet",
        compression="zstd",
        row_group_size=max(1, min(PLAIN_ROWS_PER_GROUP, PLAIN_GROUP_BYTES // width)),
    )
    data.save(folder)


def plain(drawn: Values) -> dict[str, pa.Array]:
    """Return rows as users of pyarrow would store them: lists of codes, images as binary, numbers as columns."""
    if drawn.dtype == np.float32:
        return {f"c{number:02d}": pa.array(drawn[:, number]) for number in range(drawn.shape[1])}
    if drawn.dtype == np.uint8:
        return {"values": pa.array([row.tobytes() for row in drawn], pa.binary())}
    values = pa.array(drawn.reshape(-1).astype(np.int32))
    offsets = pa.array(np.arange(0, len(values) + 1, drawn.shape[1], dtype=np.int32))
    return {"values": pa.ListArray.from_arrays(offsets, values)}
