import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.duplicates import minhash, sketching, survivors
from etl.duplicates.contents import content_of
from etl.duplicates.contents.texts import connect_block
from etl.duplicates.hash_lists import packed
from etl.duplicates.minhash import Banding
from etl.duplicates.near_duplicates import BLOCK_SIZE, near_duplicate_clusters
from etl.lake.tables import read_table
from etl.runs.run import Run
from etl.stages.deduplicate import deduplicate
from etl.stages.split import conflicts
from schemas.config import Configuration
from schemas.tables import Layout, fields_schema, spark_schema
from tests.etl import documents

LONG = " ".join(
    ["one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"] * 4
)


def record(
    record_id: str, text: str, position: int = 0, time: float | None = None, **more: Any
) -> dict[str, Any]:
    return {"record_id": record_id, "text": text, "source_position": position, "time_seconds": time} | more


SMALL = [
    record("a", LONG + " END", 7, 1.0),
    record("b", LONG + "   end", 5, 5.0),  # the same as a, but longer
    record("c", LONG, 3, 3.0),  # similar to a and b
    record("d", LONG.upper(), 9, 9.0),  # the same as c
    record("e", "something else", 1, 2.0),
    record("f", "Something   else", 2, 2.0),
    record("g", "on its own", 8, 0.0),
    record("h", LONG, 4, 4.0, filtered_by="length"),
]
SURVIVORS = {  # policy: survivor of the cluster a, b, c, d; its other representative; survivor of e and f
    "longest": ("b", "c", "f"),
    "first": ("c", "b", "e"),
    "newest": ("d", "b", "e"),
}


def frame(spark: SparkSession, config: Configuration, rows: Sequence[dict[str, Any]]) -> DataFrame:
    schema = fields_schema(config)
    base = dict.fromkeys(schema.names) | {
        "source_index": 0,
        "source_path": "a",
        "source_position": 0,
    }
    return spark.createDataFrame([base | row for row in rows], spark_schema(schema))


def ledger_of(
    spark: SparkSession,
    config: Configuration,
    rows: Sequence[dict[str, Any]],
    partitions: int = 2,
    block_size: int = BLOCK_SIZE,
) -> list[tuple[Any, ...]]:
    """Return the ledger of a small table, without writing anything."""
    fields = frame(spark, config, rows).repartition(partitions)
    sketches = sketching.with_sketches(fields, config).cache()
    texts = sketching.group_by_text(sketches, config)
    clusters = near_duplicate_clusters(
        sketching.select_signatures(sketches, texts), content_of(config).connect, block_size
    )
    ledger = survivors.build_clusters(fields, sketches, survivors.with_survivor(texts, clusters), config)
    found = ledger.select("record_id", "source", "status", "reason", "cluster_id").collect()
    sketches.unpersist()
    return sorted(tuple(row) for row in found)


@pytest.mark.parametrize("policy", sorted(SURVIVORS))
def test_every_record_has_its_status_reason_and_cluster(
    spark: SparkSession, tmp_path: Path, policy: str
) -> None:
    config = documents.configuration(tmp_path, deduplicate={"survivor": policy}, columns={"time": "seen"})
    first, second, short = SURVIVORS[policy]
    expected = {
        **dict.fromkeys("abcd", ("exact_duplicate", first, first)),
        second: ("near_duplicate", first, first),
        first: ("kept", None, first),
        **dict.fromkeys("ef", ("exact_duplicate", short, short)),
        short: ("kept", None, short),
        "g": ("kept", None, "g"),
        "h": ("filtered", "length", None),
    }
    rows = sorted((name, "a", *status) for name, status in expected.items())
    assert ledger_of(spark, config, SMALL) == rows


def test_duplicates_can_all_be_kept(spark: SparkSession, tmp_path: Path) -> None:
    config = documents.configuration(tmp_path, deduplicate={"duplicates": "keep"})
    clusters = dict.fromkeys("abcd", "b") | dict.fromkeys("ef", "f") | {"g": "g"}
    expected = [(name, "a", "kept", None, cluster) for name, cluster in clusters.items()]
    assert ledger_of(spark, config, SMALL) == [*expected, ("h", "a", "filtered", "length", None)]


def test_equal_lengths_and_times_are_decided_by_the_record_id(spark: SparkSession, tmp_path: Path) -> None:
    rows = [record(name, "the very same text", 0, 1.0) for name in ("y", "x", "z")]
    for policy in ("longest", "first", "newest"):
        config = documents.configuration(tmp_path, deduplicate={"survivor": policy}, columns={"time": "seen"})
        statuses = [(row[0], row[2]) for row in ledger_of(spark, config, rows)]
        assert statuses == [("x", "kept"), ("y", "exact_duplicate"), ("z", "exact_duplicate")]


def table(config: Configuration, uri: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = DeltaTable(uri).to_pyarrow_table().sort_by("record_id").to_pylist()
    return rows


def test_clusters_are_those_of_comparing_all_pairs_in_any_order_and_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    texts = documents.planted() + ["copied text, five thousand times over"] * 5_000
    rows = [record(f"r{i:05d}", text) for i, text in enumerate(texts)]
    config = documents.configuration(tmp_path / "one")
    layout = Layout.of(config)
    documents.write_fields(config, rows)
    counts = deduplicate(Run(spark, config))
    ledger, signatures = table(config, layout.clusters), table(config, layout.signatures)

    found = defaultdict(set)
    for row in ledger:
        found[row["cluster_id"]].add(int(row["record_id"][1:]))
    distinct = len(texts) - 4_999
    expected = {
        group | frozenset(range(distinct, len(texts))) if distinct - 1 in group else group
        for group in documents.clusters_of(texts[:distinct])
    }
    assert {frozenset(group) for group in found.values()} == expected
    forms = {documents.form(text) for text in texts}
    assert counts == {
        "kept": len(expected),
        "filtered": 0,
        "exact_duplicate": len(texts) - len(forms),
        "near_duplicate": len(forms) - len(expected),
        "salted_keys": 1,
    }
    assert len(signatures) == len(forms)

    assert deduplicate(Run(spark, config)) == counts
    assert table(config, layout.clusters) == ledger
    assert table(config, layout.signatures) == signatures
    again = documents.configuration(tmp_path / "two")
    random.Random(8).shuffle(rows)
    documents.write_fields(again, rows, files=5)
    assert deduplicate(Run(spark, again)) == counts
    assert table(again, Layout.of(again).clusters) == ledger
    assert table(again, Layout.of(again).signatures) == signatures


def skewed() -> list[str]:
    """Return texts of each skewed kind, planted duplicates, and exact copies of some; 3,000 texts."""
    rng = random.Random(11)
    texts = [text for kind in documents.SKEWED.values() for text in kind(rng, 300)] + documents.planted(12)
    return texts + rng.choices(texts, k=300) + texts[:1] * 300


def clusters(ledger: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    return {row[0]: row[4] for row in ledger}


@pytest.fixture(scope="module")
def skewed_ledger(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    config = documents.configuration(tmp_path_factory.mktemp("skewed"))
    return ledger_of(spark, config, [record(f"r{i:05d}", text) for i, text in enumerate(skewed())])


def test_exact_duplicates_all_near_duplicates_but_a_thousandth_and_nothing_else(
    skewed_ledger: list[tuple[Any, ...]],
) -> None:
    cluster, texts = clusters(skewed_ledger), skewed()
    names = [f"r{i:05d}" for i in range(len(texts))]
    together = [cluster[name] for name in names]
    by_form = defaultdict(set)
    for text, label in zip(texts, together, strict=True):
        by_form[documents.form(text)].add(label)
    assert all(len(labels) == 1 for labels in by_form.values())  # exact duplicates: all of them
    distinct = sorted({documents.form(text): i for i, text in enumerate(texts)}.values())
    pairs = documents.similar_pairs([texts[i] for i in distinct])
    found = sum(together[distinct[i]] == together[distinct[j]] for i, j in pairs)
    assert len(pairs) > 10_000
    assert found / len(pairs) >= 0.999
    # Two texts in one cluster are always connected by pairs that are similar.
    parts = documents.partition(range(len(distinct)), pairs)
    true_part = {member: number for number, part in enumerate(parts) for member in part}
    spanned = defaultdict(set)
    for place, i in enumerate(distinct):
        spanned[together[i]].add(true_part[place])
    assert all(len(numbers) == 1 for numbers in spanned.values())
    statuses = [row[2] for row in skewed_ledger]
    assert statuses.count("exact_duplicate") == len(texts) - len(distinct)


@pytest.mark.parametrize(
    ("partitions", "shuffle_partitions", "block_size"),
    [(1, 1, 10**7), (3, 5, 2_000), pytest.param(7, 3, 30_000, marks=pytest.mark.thorough)],
)
def test_order_partitions_and_blocks_change_nothing(
    spark: SparkSession,
    tmp_path: Path,
    skewed_ledger: list[tuple[Any, ...]],
    partitions: int,
    shuffle_partitions: int,
    block_size: int,
) -> None:
    """One partition is one core's work. At 30,000, some components fit a block; at 2,000, nearly all are spread."""
    config = documents.configuration(tmp_path)
    rows = [record(f"r{i:05d}", text) for i, text in enumerate(skewed())]
    random.Random(partitions).shuffle(rows)
    before = spark.conf.get("spark.sql.shuffle.partitions") or "4"
    spark.conf.set("spark.sql.shuffle.partitions", str(shuffle_partitions))
    try:
        assert ledger_of(spark, config, rows, partitions, block_size) == skewed_ledger
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)


@pytest.mark.thorough
def test_a_header_shared_by_four_times_the_texts_is_four_times_the_shuffle(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Their one component does not fit into a block and is spread over many."""
    config = documents.configuration(tmp_path)

    def written(count: int) -> int:
        rows = [
            record(f"r{i}", text)
            for i, text in enumerate(documents.headed(random.Random(1), count, 80, 20, 20))
        ]
        before = max(shuffled_by_stage(spark), default=-1)
        ledger_of(spark, config, rows, 2, 5_000)
        return sum(size for stage_id, size in shuffled_by_stage(spark).items() if stage_id > before)

    assert written(1_200) <= 4.5 * written(300)


@pytest.mark.parametrize("block_size", [pytest.param(20_000, marks=pytest.mark.thorough), 300])
def test_blocks_of_any_size_give_the_same_clusters(
    spark: SparkSession, tmp_path: Path, block_size: int
) -> None:
    """At 20,000, components are packed into blocks; at 300, most are too large for one and are spread over several."""
    config = documents.configuration(tmp_path)
    rows = [record(f"r{i}", text) for i, text in enumerate(documents.planted(9))]
    sketches = sketching.with_sketches(frame(spark, config, rows), config)
    signatures = sketching.select_signatures(sketches, sketching.group_by_text(sketches, config)).cache()
    whole = sorted(near_duplicate_clusters(signatures, content_of(config).connect).collect())
    sizes = [row[0] for row in signatures.select(F.octet_length("sketch") / 8).collect()]
    assert len(whole) > 50
    assert sum(sizes) > block_size
    assert (
        sorted(near_duplicate_clusters(signatures, content_of(config).connect, block_size).collect()) == whole
    )
    signatures.unpersist()


def test_texts_do_not_cross_a_shuffle(spark: SparkSession, tmp_path: Path) -> None:
    """8 MB of characters that no compression makes small, with few words between them."""
    config = documents.configuration(tmp_path)
    rng = random.Random(6)
    signs = ["".join(rng.choices("!#$%&()*+,-./:;<=>?@[]^{|}~ ", k=200_000)) for _ in range(40)]
    rows = [record(f"r{i}", f"word {noise} x{i}") for i, noise in enumerate(signs)]
    documents.write_fields(config, rows)
    before = max(shuffled_by_stage(spark), default=-1)
    deduplicate(Run(spark, config))
    written = [size for stage_id, size in shuffled_by_stage(spark).items() if stage_id > before]
    assert 0 < sum(written) < 1_000_000


def shuffled_by_stage(spark: SparkSession) -> dict[int, int]:
    """Return the bytes that each of Spark's stages wrote for a shuffle, by its number."""
    jvm, store = spark._jvm, spark._jsc.sc().statusStore()
    gateway = spark.sparkContext._gateway
    no_quantiles = gateway.new_array(gateway.jvm.double, 0)  # type: ignore[union-attr]
    stages = store.stageList(None, False, False, no_quantiles, jvm.java.util.ArrayList())  # type: ignore[union-attr]
    listed = [stages.apply(i) for i in range(stages.size())]
    return {stage.stageId(): stage.shuffleWriteBytes() for stage in listed}


def licences(folder: Path, names: str) -> list[str]:
    """Return the demo's rules and licences whose file names match."""
    files = sorted(path for path in folder.glob(f"*/{names}.*") if path.suffix in (".RULE", ".LICENSE"))
    parts = [path.read_text(encoding="utf-8").split("---\n", 2) for path in files]
    return [part[2] for part in parts if len(part) == 3]


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_later_records_near_to_clusters_of_several_splits_are_left_out(
    spark: SparkSession, tmp_path: Path, duplicates: str
) -> None:
    config = documents.configuration(tmp_path, deduplicate={"duplicates": duplicates})
    ids = {"copy": "c", "near": "n", "near copy": "n", "bridge": "b", "bridge copy": "b"}
    records = spark.createDataFrame(
        [(name, "later.jsonl", text) for name, text in ids.items()],
        "record_id string, source_path string, content_hash string",
    )
    texts = spark.createDataFrame(
        [("c", ("copy",)), ("n", ("near",)), ("b", ("bridge",))],
        "content_hash string, rank struct<record_id: string>",
    )
    joined = spark.createDataFrame(
        [("c", "x", ["train"], True), ("n", "x", ["train"], False), ("b", "x", ["test", "train"], False)],
        "content_hash string, earlier_cluster string, splits array<string>, is_copy boolean",
    )
    later = survivors.clusters_of_joined(records, texts, joined, config)
    rows = {row["record_id"]: (row["status"], row["reason"], row["cluster_id"]) for row in later.collect()}
    conflict = ("filtered", "split_conflict", None)
    assert (rows["bridge"], rows["bridge copy"]) == (conflict, conflict)
    kept = ("kept", None, "x")
    dropped = {
        "copy": ("exact_duplicate", "x", "x"),
        "near": ("near_duplicate", "x", "x"),
        "near copy": ("exact_duplicate", "x", "x"),
    }
    for name, row in dropped.items():
        assert rows[name] == (row if duplicates == "drop" else kept)

    # In other splits, those dropped as near-duplicates would stay out.
    of_a_group = later.withColumn(
        "reason", F.when(F.col("record_id") == "near", "split_conflict").otherwise(F.col("reason"))
    )
    assert conflicts(later, of_a_group, config) == (1 if duplicates == "drop" else 3)


@pytest.mark.parametrize("names", ["a*", pytest.param("*", marks=pytest.mark.thorough)])
def test_real_texts_against_brute_force(licences_folder: Path, names: str) -> None:
    """All pairs of the real texts at a Jaccard similarity of 0.8 or more are found, and no other is connected."""
    texts = licences(licences_folder, names)
    distinct = list({documents.form(text): text for text in texts}.values())
    sketches = minhash.sketch(pa.array(texts), 5, Banding.for_similarity(0.8), set())
    assert len(set(sketches.content_hash)) == len(distinct) < len(texts)

    pairs = documents.similar_pairs(distinct)
    assert len(pairs) > 1_000

    labels = connected_labels(distinct)
    recall = sum(labels[i] == labels[j] for i, j in pairs) / len(pairs)
    assert recall >= 0.999
    groups = defaultdict(set)
    for i, label in enumerate(labels):
        groups[label].add(i)
    assert {frozenset(group) for group in groups.values()} == documents.partition(range(len(distinct)), pairs)


def test_a_block_gives_the_same_in_any_order_and_any_pieces() -> None:
    """A component is named by its smallest hash, whatever the position of that."""
    block = block_of(documents.planted(9))
    whole = connect_block(block, 0.8).sort_by("content_hash")
    assert whole.num_rows > 50
    for component in set(whole["component"].to_pylist()):
        members = whole.filter(pc.field("component") == component)["content_hash"].to_pylist()
        assert component == min(members) < max(members)
    for seed in range(3):
        order = list(range(block.num_rows))
        random.Random(seed).shuffle(order)
        mixed = block.take(order)
        for pieces in (mixed, pa.concat_tables([mixed.slice(0, 30), mixed.slice(30, 0), mixed.slice(30)])):
            assert connect_block(pieces, 0.8).sort_by("content_hash") == whole
    assert connect_block(block.slice(0, 0), 0.8).num_rows == 0


def connected_labels(distinct: Sequence[str]) -> list[bytes]:
    """Return the component of each of some distinct texts, all in one block."""
    block = block_of(distinct)
    clusters = connect_block(block, 0.8).to_pydict()
    component = dict(zip(clusters["content_hash"], clusters["component"], strict=True))
    return [component.get(digest, digest) for digest in block["content_hash"].to_pylist()]


def block_of(distinct: Sequence[str]) -> pa.Table:
    """Return the input of a task for distinct texts."""
    found = minhash.sketch(pa.array(distinct), 5, Banding.for_similarity(0.8), set())
    filled = np.diff(found.offsets) > 0
    starts = np.cumsum(np.concatenate(([0], np.where(filled, 28, 0))))
    return pa.table(
        {
            "content_hash": pa.array(found.content_hash),
            "signs": pa.array(found.signs),
            "bands": pa.ListArray.from_arrays(pa.array(starts, pa.int32()), found.bands.ravel()),
            "sketch": packed(found.values, found.offsets),
        }
    )


def test_signatures_are_written_under_the_representative(spark: SparkSession, tmp_path: Path) -> None:
    config = documents.configuration(tmp_path)
    documents.write_fields(config, SMALL)
    deduplicate(Run(spark, config))
    rows = read_table(spark, Layout.of(config).signatures).orderBy("record_id").collect()
    assert [row["record_id"] for row in rows] == ["b", "c", "f", "g"]
    assert [len(row["sketch"]) // 8 for row in rows] == [16, 15, 1, 1]
    assert [len(row["bands"]) for row in rows] == [28] * 4
