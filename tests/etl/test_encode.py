"""Stage `encode`: rows in the form a model takes, learnt from the training split alone."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession
from tokenizers import Tokenizer

from common.errors import DataError
from etl.lake.tables import read_table
from etl.runs.run import Run
from etl.stages.encode import encode
from etl.versions.publishing import encoded_artifacts
from schemas.config import Configuration
from schemas.tables import Layout, fields_schema, ledger_schema
from tests.etl.example_tables import configuration

ROWS = [
    ("a", "notice", "licensed under the licence of the licensor", "train"),
    ("b", "text", "the licence is the text of the licence", "train"),
    ("c", "notice", "licensed " * 40, "validation"),
    ("d", "tag", "unseen zebra zebra zebra", "test"),
    ("e", "notice", "a filtered record", None),
]


def write_silver(config: Configuration, rows: Sequence[tuple[str, str, str, str | None]]) -> None:
    layout = Layout.of(config)
    place = {"source_index": 0, "source_path": "a", "source_position": 0, "time_seconds": None}
    fields = [{"record_id": i, **place, "label": label, "text": text} for i, label, text, _ in rows]
    ledger = [
        {
            "record_id": i,
            "source": "a",
            "status": "kept" if split else "filtered",
            "cluster_id": i,
            "split": split,
        }
        for i, _, _, split in rows
    ]
    for uri, values, schema in (
        (layout.fields, fields, fields_schema(config)),
        (layout.ledger, ledger, ledger_schema()),
    ):
        columns: dict[str, list[Any]] = {
            field.name: [row.get(field.name) for row in values] for field in schema
        }
        write_deltalake(uri, pa.table(columns, schema=schema), mode="overwrite")


def small(folder: Path, **changes: Any) -> Configuration:
    feature = {"name": "tokens", "column": "text", "length": 6, "vocabulary": 300, **changes}
    return configuration(folder, feature=[feature])


def test_rows_labels_and_counts(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(tmp_path)
    write_silver(config, ROWS)
    counts = encode(Run(spark, config))
    layout = Layout.of(config)
    rows = {row["record_id"]: row for row in read_table(spark, layout.encoded).collect()}
    assert sorted(rows) == ["a", "b", "c", "d"]
    assert {i: (row["split"], row["label_index"]) for i, row in rows.items()} == {
        "a": ("train", 0),
        "b": ("train", 2),
        "c": ("validation", 0),
        "d": ("test", 1),
    }
    stored = encoded_artifacts(config, layout)
    artifacts = {name: (Path(layout.artifacts) / sha256).read_bytes() for name, sha256 in stored.items()}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in artifacts.items()} == stored
    assert json.loads(artifacts["classes"]) == ["notice", "tag", "text"]
    tokenizer = Tokenizer.from_str(artifacts["tokens"].decode())
    cut = 0
    for record_id, _, text, split in ROWS:
        if split is None:
            continue
        ids = tokenizer.encode(text).ids
        kept = ids if len(ids) <= 6 else ids[:3] + ids[-3:]
        expected = np.array(kept + [0] * (6 - len(kept)), "<u2").tobytes()
        assert bytes(rows[record_id]["tokens"]) == expected
        assert rows[record_id]["tokens_tokens"] == len(ids)
        cut += max(0, len(ids) - 6)
    assert cut > 0
    whole = sum(r["tokens_tokens"] for r in rows.values())
    assert counts == {"rows": 4, "tokens": whole, "tokens_cut": cut}
    learned = [row["tokens_tokens"] for row in rows.values() if row["split"] == "train"]
    share = sum(min(6, tokens) for tokens in learned) / sum(learned)
    assert f"  tokens: length 6 keeps {100 * share:.1f}% of the tokens; it takes " in capsys.readouterr().err


def test_the_tokenizer_learns_from_the_training_split_alone(spark: SparkSession, tmp_path: Path) -> None:
    shas = []
    for name, place, text in (("one", 3, ROWS[3][2]), ("two", 3, "other " * 30), ("three", 0, "other " * 30)):
        config = small(tmp_path / name)
        rows = [*ROWS]
        rows[place] = (*rows[place][:2], text, rows[place][3])
        write_silver(config, rows)
        encode(Run(spark, config))
        shas.append(encoded_artifacts(config, Layout.of(config))["tokens"])
    assert shas[0] == shas[1]  # a text of the test split changed
    assert shas[0] != shas[2]  # a text of the training split changed


def test_above_fit_bytes_a_sample_by_id_trains_the_tokenizer(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(f"id{n}", "notice", f"word{n % 50} and word{n % 7} " * 3, "train") for n in range(300)]
    shas = []
    for name, limit in (("all", 10**6), ("some", 3000), ("again", 3000)):
        config = small(tmp_path / name, fit_bytes=limit)
        write_silver(config, rows if name != "again" else rows[::-1])
        encode(Run(spark, config))
        shas.append(encoded_artifacts(config, Layout.of(config))["tokens"])
    assert shas[0] != shas[1]
    assert shas[1] == shas[2]


def test_without_a_training_split_it_says_so(spark: SparkSession, tmp_path: Path) -> None:
    config = small(tmp_path)
    write_silver(config, [row for row in ROWS if row[3] != "train"])
    with pytest.raises(DataError, match="no record of small is left for the training split"):
        encode(Run(spark, config))
