"""Packed rows: every record once and in whole, in the same rows however the work is divided, and erased for good."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from tokenizers import Tokenizer

from common.errors import CheckError, DataError
from common.storage import Storage
from etl.encoders import packed_tokens
from etl.erasure.finding import Person
from etl.erasure.forgetting import forget
from etl.lake.tables import read_table
from etl.publication.balance import SplitPlan, shard_rows
from etl.publication.packing import PackedLayout, Packer, added, check_written
from etl.versions.building import run_stages
from provenance.keys import record_keys
from provenance.packed import token_sums
from schemas import manifest as manifests
from schemas.config import Configuration
from schemas.features.packed_tokens import PackedTokensFeature
from schemas.manifest import Manifest
from schemas.split_content import Packing
from schemas.tables import SPLITS, Layout
from tests.data_sets import copy_of, made_once
from tests.etl.example_tables import configuration
from tests.faults.pipeline_runs import write_files

SEPARATOR = 9
Records = list[tuple[str, list[int]]]
"""Ids and tokens, in the order of publication."""


def batch_of(records: Records) -> pa.RecordBatch:
    tokens = [np.array(ids, "<u2").tobytes() for _, ids in records]
    return pa.RecordBatch.from_pydict(
        {
            "record_id": pa.array([name for name, _ in records], pa.string()),
            "tokens": pa.array(tokens, pa.binary()),
            "tokens_bytes": pa.array([3 * len(ids) for _, ids in records], pa.int64()),
        }
    )


def plan_of(records: Records, length: int, shards: int, rows_per_group: int) -> SplitPlan:
    """Plan shards by counting every token."""
    owner = [(place, at) for place, (_, ids) in enumerate(records) for at in range(len(ids) + 1)]
    rows = shard_rows(-(-len(owner) // length), shards, rows_per_group)
    starts = [owner[sum(rows[:number]) * length] for number in range(len(rows))]
    first = tuple((place, records[place][0]) for place, _ in starts)
    return SplitPlan("train", tuple(rows), first, tuple(at for _, at in starts))


def pack(records: Records, layout: PackedLayout, plan: SplitPlan, number: int, size: int) -> pa.Table:
    """Pack a shard from batches of `size` records."""
    packer = Packer(layout, plan, number)
    ends = [*(place for place, _ in plan.first[1:]), len(records) - 1]
    mine = records[plan.first[number][0] : ends[number] + 1]
    rows = [packer.add(batch_of(mine[at : at + size])) for at in range(0, len(mine), size)]
    return pa.Table.from_batches([*rows, packer.finish()])


@given(
    lengths=st.lists(st.integers(0, 23), min_size=1, max_size=12),
    length=st.integers(2, 7),
    shards=st.integers(1, 4),
    size=st.integers(1, 5),
)
def test_rows_are_the_records_end_to_end_however_they_arrive(
    lengths: list[int], length: int, shards: int, size: int
) -> None:
    random = np.random.default_rng(sum(lengths))
    records = [(f"r{n:02}", random.integers(10, 99, count).tolist()) for n, count in enumerate(lengths)]
    layout, plan = PackedLayout("tokens", length, SEPARATOR, "uint16"), plan_of(records, length, shards, 1)
    tables = [pack(records, layout, plan, number, size) for number in range(len(plan.rows))]
    whole = pa.concat_tables(tables)
    stream = [token for _, ids in records for token in [*ids, SEPARATOR]]
    rows = [np.frombuffer(row, "<u2").tolist() for row in whole["tokens"].to_pylist()]
    padding = len(rows) * length - len(stream)
    assert [token for row in rows for token in row] == stream + [0] * padding
    assert padding < length
    known = {name: [*ids, SEPARATOR] for name, ids in records}
    for row, documents in zip(rows, whole["documents"].to_pylist(), strict=True):
        parts = [known[one["record_id"]][one["first"] : one["last"] + 1] for one in documents]
        held = [token for part in parts for token in part]
        assert held == row[: len(held)]
    assert len(set(whole["record_id"].to_pylist())) == len(rows)
    sent = layout.sent(batch_of(records))
    written = [layout.written(table) for table in tables]
    assert added(written) == sent.model_copy(update={"padding": padding})
    check_written({"train": sent}, {"train": written})


def test_the_sums_of_a_record_do_not_depend_on_its_parts_but_on_order_record_and_place() -> None:
    keys, tokens = record_keys(["a", "b"]), np.array([5, 6, 7, 8])

    def sums(first: list[int], counts: list[int], which: list[int], ids: Any = tokens) -> tuple[int, int]:
        return token_sums(keys[which], np.array(first), np.array(counts), ids)

    whole = sums([0, 0], [3, 1], [0, 1])
    assert (
        whole == sums([0, 1, 0], [1, 2, 1], [0, 0, 1]) == sums([0, 0], [1, 3], [1, 0], np.array([8, 5, 6, 7]))
    )
    others = [
        sums([0, 0], [3, 1], [1, 0]),
        sums([0, 1], [3, 1], [0, 1]),
        sums([0, 0], [3, 1], [0, 1], tokens[::-1]),
    ]
    assert whole not in others


def test_a_record_that_is_cut_repeated_or_exchanged_is_found() -> None:
    layout = PackedLayout("tokens", 4, SEPARATOR, "uint16")
    records: Records = [("a", [10, 11]), ("b", [12, 13, 14]), ("c", [15])]
    sent = layout.sent(batch_of(records))
    for others in (records[:2], [*records, records[0]], [("a", [10, 12]), ("b", [11, 13, 14]), ("c", [15])]):
        plan = plan_of(others, 4, 1, 1)
        written = layout.written(pack(others, layout, plan, 0, 9))
        with pytest.raises(CheckError, match=r"the train shards hold .* nothing was published"):
            check_written({"train": sent}, {"train": [written]})
    short = SplitPlan("train", (3,), ((0, "a"),), (0,))
    with pytest.raises(CheckError, match="2 packed rows, but 3 were planned"):
        pack(records[:1] * 2, layout, short, 0, 9)


def test_a_configured_tokenizer_needs_a_separator(tmp_path: Path) -> None:
    feature = PackedTokensFeature(name="tokens", column="text", encode="packed_tokens", vocabulary=300)
    made = packed_tokens.fit(["some text"], feature, Storage())
    assert packed_tokens.separator(made) == 1
    assert Tokenizer.from_str(made.decode()).id_to_token(1) == "<end>"
    text = pa.array(["a <end> of b<pad>", ""])
    ids, counts, sizes = packed_tokens.encode(text, made, feature)
    assert 1 not in np.frombuffer(ids[0].as_py(), "<u2")  # the name in a text is text
    assert (counts[1].as_py(), sizes.to_pylist()) == (0, [17, 0])
    file = tmp_path / "tokenizer.json"
    file.write_bytes(made.replace(b"<end>", b"<cut>"))
    with pytest.raises(DataError, match="none of <end>"):
        packed_tokens.fit([], feature.model_copy(update={"tokenizer": str(file)}), Storage())


def packed(root: Path, files: Path, **publish: Any) -> Configuration:
    return configuration(
        root,
        source=[{"format": "jsonl", "path": f"{files}/*.jsonl"}],
        columns={"id": "id"},
        feature=[
            {"name": "tokens", "column": "text", "encode": "packed_tokens", "length": 16, "vocabulary": 300}
        ],
        publish={"shards": 3, "rows_per_group": 8, **publish},
        quality={"max_quarantine_share": 0.5, "max_split_deviation": 1.0},
        train={"runs": str(root / "runs")},
    )


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    """Publish packed rows once; tests look at them, or change a copy."""

    def make(folder: Path) -> None:
        write_files(folder / "files")
        run_stages(spark, packed(folder, folder / "files"), 0.0, again=False)

    folder = made_once(tmp_path_factory, "packed", make)
    return packed(folder, folder / "files")


def newest(config: Configuration) -> Manifest:
    return manifests.load(manifests.newest(Layout.of(config).manifests))


def rows_of(manifest: Manifest, split: str) -> list[dict[str, Any]]:
    return [
        row
        for one in manifest.splits[split].shards
        for row in pq.read_table(manifest.shard_uri(one)).to_pylist()
    ]


def records_in(manifest: Manifest, split: str) -> Iterator[tuple[str, list[int]]]:
    """Yield each record with the tokens that the rows hold of it, in their order."""
    found: dict[str, list[int]] = {}
    for row in rows_of(manifest, split):
        at, tokens = 0, np.frombuffer(row["tokens"], "<u2").tolist()
        for part in row["documents"]:
            assert part["first"] == len(found.setdefault(part["record_id"], []))
            count = part["last"] - part["first"] + 1
            found[part["record_id"]] += tokens[at : at + count]
            at += count
        assert set(tokens[at:]) <= {0}
    return iter(found.items())


def test_all_records_are_in_the_rows_and_the_manifest_says_so(
    spark: SparkSession, published: Configuration
) -> None:
    manifest, layout = newest(published), Layout.of(published)
    column = manifest.column("feature")
    assert (column.shape, column.separator) == ([16], 1)
    assert manifest.column("documents").name == "documents"
    encoded = {row["record_id"]: row for row in read_table(spark, layout.encoded).collect()}
    for split in SPLITS:
        content, packing = manifest.splits[split], manifest.splits[split].packing
        assert packing is not None
        found = dict(records_in(manifest, split))
        assert found.keys() == {name for name, row in encoded.items() if row["split"] == split}
        for name, tokens in found.items():
            assert tokens == [*np.frombuffer(bytes(encoded[name]["tokens"]), "<u2").tolist(), 1]
        assert packing.records == content.records == len(found)
        assert packing.tokens == sum(len(tokens) - 1 for tokens in found.values())
        assert packing.text_bytes == sum(encoded[name]["tokens_bytes"] for name in found)
        assert content.rows * 16 == packing.tokens + packing.records + packing.padding
        assert sum(one.records or 0 for one in content.shards) == packing.records
    assert sum(one.records for one in manifest.splits.values()) == manifest.content.counts["published"]
    assert len(manifest.splits["train"].shards) == 3


def test_partitions_and_shards_of_the_work_change_nothing(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    files = Path(published.source[0].path).parent
    before = spark.conf.get("spark.sql.shuffle.partitions") or "4"
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        again, _ = run_stages(spark, packed(tmp_path, files), 0.0, again=False)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    assert again.manifest_root == newest(published).manifest_root


def test_a_forgotten_record_is_in_no_row_and_all_others_are_packed_again(
    spark: SparkSession, published: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copy_of(published, tmp_path)
    before = newest(config)
    name = next(one for one, _ in records_in(before, "train") if int(one) % 7)  # all others have copies
    person = Person.of(ids=[name])
    found = forget(spark, config, person)
    assert found.traces.versions[0].rows == {"train": 1}
    after, _ = run_stages(spark, config, 0.0, again=False)
    assert after.splits["train"].records == before.splits["train"].records - 1
    assert name not in dict(records_in(after, "train"))
    for table in ("fields", "encoded", "ledger"):
        assert read_table(spark, getattr(Layout.of(config), table)).where(f"record_id = '{name}'").isEmpty()


def test_new_files_are_packed_with_all_others_and_nothing_else_is_encoded(
    spark: SparkSession, published: Configuration, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    shutil.copytree(Path(published.source[0].path).parent, files)
    config = packed(tmp_path, files)
    copy_of(published, tmp_path)
    before = {split: dict(records_in(newest(config), split)) for split in SPLITS}
    lines = [{"id": f"new-{n}", "text": f"a text of its own with {n} and {n * 7919}"} for n in range(20)]
    (files / "new.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest, _ = run_stages(spark, config, 0.0, again=False)
    after = {split: dict(records_in(manifest, split)) for split in SPLITS}
    for split in SPLITS:
        assert after[split].items() >= before[split].items()
    new = {name for split in SPLITS for name in after[split].keys() - before[split].keys()}
    assert new == {line["id"] for line in lines}


def test_an_altered_packing_is_refused(published: Configuration) -> None:
    content = newest(published).content
    train = content.splits["train"]
    assert train.packing is not None
    wrong = train.packing.model_copy(update={"tokens": train.packing.tokens + 1})
    document = content.model_dump()
    document["splits"]["train"]["packing"] = wrong.model_dump()
    with pytest.raises(ValueError, match="do not fill its"):
        type(content).model_validate(document)
    assert Packing.model_validate(train.packing.model_dump()) == train.packing
