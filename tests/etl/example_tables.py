"""A tiny hand-written data set, from bronze to silver, for the tests of the summary and the report."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from etl.spark.sampled_words import words_of
from schemas.config import Configuration
from schemas.tables import (
    Layout,
    encoded_schema,
    fields_schema,
    ledger_schema,
    quarantine_schema,
    records_schema,
    signatures_schema,
    sources_schema,
)

NOW = datetime.datetime(2024, 5, 6, tzinfo=datetime.UTC)

# record_id: label, text as read, text as cleaned, rule that filtered it, effects, status, reason, cluster, split
RECORDS: dict[str, tuple[Any, ...]] = {
    "a1": ("notice", "x" * 8, "x" * 8, None, {}, "kept", None, "a1", "train"),
    "a2": ("notice", "x" * 8, "x" * 8, None, {}, "exact_duplicate", "a1", "a1", None),
    "a3": ("notice", "x " * 4, "x x x x", None, {"white_space": 1}, "near_duplicate", "a1", "a1", None),
    "b1": (
        "text",
        "mail jo@example.org if 1 < 2 & so on and on and on!!",
        "mail <email> if 1 < 2 & so on and on and on!!",
        None,
        {"emails": 1, "white_space": 2},
        "kept",
        None,
        "b1",
        "train",
    ),
    "b2": ("text", "y" * 100, "y" * 100, None, {}, "kept", None, "b2", "train"),
    "c1": ("text", "z" * 31, "z" * 31, None, {}, "kept", None, "c1", "validation"),
    "d1": ("notice", "v" * 32, "v" * 32, None, {}, "kept", None, "d1", "test"),
    "d2": ("notice", "v" * 32, "v" * 32, None, {}, "exact_duplicate", "d1", "d1", None),
    "e1": ("tag", "", "", "length", {"length": 1}, "filtered", "length", None, None),
    "e2": (
        "tag",
        "write to ann@example.org ????",
        "write to <email> ????",
        "character_ratio",
        {"emails": 1, "character_ratio": 1},
        "filtered",
        "character_ratio",
        None,
        None,
    ),
}
TOKENS = {"a1": 3, "b1": 40, "b2": 64, "c1": 4, "d1": 5}
QUARANTINE = [
    ("a.jsonl", 0, "invalid_json"),
    ("a.jsonl", 9, "invalid_json"),
    ("b.jsonl", 0, "unreadable_file"),
]


def configuration(root: Path, **sections: Any) -> Configuration:
    """Return a configuration whose data set lies below `root`; `sections` are added or replace those here."""
    document: dict[str, Any] = {
        "dataset": {"name": "small", "root": str(root)},
        "source": [{"format": "jsonl", "path": "in/*.jsonl"}],
        "columns": {"id": "id", "label": "label"},
        "feature": [{"name": "tokens", "column": "text", "length": 32}],
        **sections,
    }
    return Configuration.model_validate(document)


def write_small_data_set(config: Configuration) -> None:
    """Write the bronze and silver tables of `RECORDS`, as the stages before `publish` leave them."""
    layout = Layout.of(config)
    table_columns = {"source_index": 0, "source_path": "a.jsonl", "time_seconds": None}
    records, fields, ledger, encoded = [], [], [], []
    for position, (record_id, row) in enumerate(RECORDS.items()):
        label, before, after, filtered_by, effects, status, reason, cluster_id, split = row
        base = {"record_id": record_id, "source_position": position, "label": label, **table_columns}
        records.append({**base, "source_bytes": len(before) + 20, "text": before})
        listed = [{"rule": rule, "count": count} for rule, count in effects.items()]
        lengths = {"text_characters_read": [len(before)], "text_characters": [len(after)]}
        fields.append(
            {**base, "text": after, "filtered_by": filtered_by, "effects": listed, **lengths}
            | {"sampled_words": words_of([after])}
        )
        ledger.append(
            {"record_id": record_id, "source": "a.jsonl", "status": status, "reason": reason}
            | {"cluster_id": cluster_id, "split": split}
        )
        if split is not None:
            tokens = np.zeros(32, "<u2").tobytes()
            index = ["notice", "text"].index(label)
            row_of = {"record_id": record_id, "split": split, "label_index": index}
            encoded.append({**row_of, "tokens": tokens, "tokens_tokens": TOKENS[record_id]})
    quarantine = [
        {"source_index": 0, "source_path": path, "source_position": position, "reason": reason}
        | {"detail": "it is not a JSON object", "raw": b"{oops"}
        for path, position, reason in QUARANTINE
    ]
    common = {"source_index": 0, "bytes": 500, "sha256": "0" * 64, "modified": NOW, "ingested": NOW}
    sources = [
        {**common, "source_path": "a.jsonl", "status": "read", "records": 12, "quarantined": 2},
        {**common, "source_path": "b.jsonl", "sha256": None, "status": "unreadable"},
    ]
    for uri, rows, schema in (
        (layout.sources, sources, sources_schema()),
        (layout.records, records, records_schema(config)),
        (layout.quarantine, quarantine, quarantine_schema()),
        (layout.fields, fields, fields_schema(config)),
        (layout.ledger, ledger, ledger_schema()),
        (layout.encoded, encoded, encoded_schema(config)),
    ):
        columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
        write_deltalake(uri, pa.table(columns, schema=schema), mode="overwrite")


def write_signatures(config: Configuration) -> None:
    """Write silver/signatures: a1 and d1 share one of the three shingles in their union."""
    shingles = {"a1": [1, 2], "d1": [2, 3], "b1": [10], "b2": [11], "c1": [12]}
    rows = [
        {
            "record_id": r,
            "content_hash": r.encode(),
            "signs": 0,
            "bands": [0],
            "sketch": np.array(s, "<i8").tobytes(),
        }
        for r, s in shingles.items()
    ]
    write_deltalake(
        Layout.of(config).signatures, pa.Table.from_pylist(rows, schema=signatures_schema()), mode="overwrite"
    )
