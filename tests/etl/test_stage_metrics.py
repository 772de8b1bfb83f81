"""Spark's task metrics, stored beside the report and shown in it."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from common.errors import DataError
from common.pages.page import Table, Text
from etl.reporting import stages
from etl.runs import process_memory, stage_metrics
from etl.runs.process_memory import tree_bytes
from etl.runs.stage_metrics import (
    Shuffle,
    StageMetrics,
    keep,
    measured,
    metrics_since,
    newest_spark_stage,
    persisted,
)
from etl.spark.partitions import salts
from schemas.tables import Layout, sources_schema
from tests.etl.example_tables import configuration


@pytest.mark.thorough
@pytest.mark.parametrize(("rows", "median"), [([7, 400, 20, 30], 25.0), ([5, 40], 22.5), ([1, 2, 9], 2.0)])
def test_the_median_and_the_largest_task_of_a_shuffle(
    spark: SparkSession, rows: list[int], median: float
) -> None:
    salt = salts(len(rows))
    frame = spark.createDataFrame(
        [(salt[i],) for i, count in enumerate(rows) for _ in range(count)], "salt int"
    )
    before = newest_spark_stage(spark)
    frame.repartition(len(rows), "salt").write.format("noop").mode("overwrite").save()
    found = metrics_since(spark, before, "example", salted_keys=3)
    expected = Shuffle(tasks=len(rows), records=sum(rows), median_records=median, largest_records=max(rows))
    assert found.shuffles == [expected]
    assert found.read_bytes == found.written_bytes > 0
    assert (found.spilled_bytes, found.salted_keys) == (0, 3)
    assert newest_spark_stage(spark) > before
    assert metrics_since(spark, newest_spark_stage(spark), "nothing").shuffles == []


def test_what_a_stage_took_is_measured_and_kept(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    written = str(tmp_path / "rows")
    with measured("clean", spark, config) as taken:
        held = bytearray(b"x") * 200_000_000
        spark.range(100_000).write.parquet(written)
        spark.read.parquet(written).write.format("noop").mode("overwrite").save()
        taken.input_bytes += 1_000_000_000
        taken.salted_keys = 7
    on_disk = sum(file.stat().st_size for file in Path(written).glob("*.parquet"))
    (found,) = persisted(config)
    assert found.seconds > 0
    assert found.output_bytes == on_disk
    assert 1_000_000_000 < found.input_bytes < 1_000_000_000 + 3 * on_disk
    assert found.salted_keys == 7
    del held
    assert found.peak_bytes > 200_000_000
    with pytest.raises(ValueError, match="no"), measured("clean", spark, config):
        raise ValueError("no")
    assert persisted(config) == [found]


def test_of_the_sources_those_count_that_were_ingested_meanwhile(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path)

    def ingest_files(moment: datetime, *sizes: int) -> None:
        rows = [{"source_index": 0, "bytes": size, "ingested": moment, "status": "read"} for size in sizes]
        table = pa.Table.from_pylist(rows, schema=sources_schema())
        write_deltalake(Layout.of(config).sources, table, mode="append")

    ingest_files(datetime(2024, 5, 6, tzinfo=UTC), 5_000)
    with measured("ingest", spark, config):
        ingest_files(datetime.now(UTC), 300, 40)
    assert [found.input_bytes for found in persisted(config)] == [340]


def test_memory_below_a_process_counts() -> None:
    before = tree_bytes()
    code = "x = bytearray(b'x') * 300_000_000; print('there', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        # The Java machine of other tests may give memory back meanwhile.
        assert tree_bytes() - before > 200_000_000
        assert tree_bytes(child.pid) > 290_000_000
        assert tree_bytes(child.pid, shared_divided=False) >= tree_bytes(child.pid)
        child.communicate(b"\n")
    assert tree_bytes(child.pid) == 0


def test_shared_memory_is_divided_only_where_a_peak_may_be_near(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = [100, 104, 104, 110, 120, 90]
    divided: list[int] = []
    memory = process_memory.PeakMemory(seconds=0)

    def measured_bytes(process: int | None = None, shared_divided: bool = True) -> int:
        if shared_divided:
            divided.append(resident[0])
            return resident[0] - 10
        if len(resident) > 1 and divided:
            resident.pop(0)
        if len(resident) == 1:
            memory._ended.set()
        return resident[0]

    monkeypatch.setattr(process_memory, "tree_bytes", measured_bytes)
    monkeypatch.setattr(process_memory, "SHARE_SECONDS", 1e9)
    with memory:
        memory._ended.wait()
    assert divided == [100, 110, 120, 90]
    assert memory.peak == 110


EVEN = Shuffle(tasks=8, records=80_000, median_records=9_900.0, largest_records=12_870)
UNEVEN = Shuffle(tasks=4, records=40_000, median_records=5_000.0, largest_records=25_000)
FEW = Shuffle(tasks=4, records=9_999, median_records=1.0, largest_records=9_996)


def stage(name: str, *shuffles: Shuffle) -> StageMetrics:
    return StageMetrics(
        stage=name, shuffles=[*shuffles], read_bytes=2_000, written_bytes=3_000_000, spilled_bytes=0
    )


def test_the_least_even_shuffle_is_one_with_many_records() -> None:
    assert stage("x", EVEN, FEW).least_even == EVEN
    assert stage("x", EVEN, UNEVEN, FEW).least_even == UNEVEN
    assert stage("x", FEW).least_even is None
    assert UNEVEN.ratio == 5


def test_what_is_kept_comes_back_in_the_order_of_the_stages(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    assert persisted(config) == []
    later, earlier = stage("publish", EVEN), stage("ingest", FEW)
    for found in (later, stage("ingest", EVEN, FEW), earlier):
        keep(found, config)
    assert persisted(config) == [earlier, later]
    (Path(Layout.of(config).quality) / "stages" / "split.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"stages/split.json is damaged"):
        persisted(config)


def test_the_report_tells_even_from_uneven_and_neither_of_few_records() -> None:
    def shown(*of_stages: StageMetrics) -> tuple[list[list[str]], Text]:
        table, verdict = stages.balance(of_stages).blocks
        assert isinstance(table, Table)
        assert isinstance(verdict, Text)
        return [[cell.text for cell in row] for row in table.cells], verdict

    rows, verdict = shown(stage("clean"), stage("deduplicate", EVEN, FEW))
    assert rows == [
        ["clean", "0", "3.0 MB", "2.0 kB", "0 bytes", "–", "", "", "", "0"],
        ["deduplicate", "2", "3.0 MB", "2.0 kB", "0 bytes", "8", "9,900", "12,870", "1.30", "0"],
    ]
    assert verdict.tone == "good"
    rows, verdict = shown(stage("split", UNEVEN), stage("encode", EVEN))
    assert rows[0][5:9] == ["4", "5,000", "25,000", "5.00"]
    assert (verdict.tone, verdict.text.endswith("in: split.")) == ("bad", True)
    rows, verdict = shown(stage("split", FEW))
    assert rows[0][5] == "few records"
    assert verdict.tone == "quiet"
    slow = stage("clean").model_copy(
        update={"seconds": 30.0, "input_bytes": 5_000, "peak_bytes": 2_000_000_000}
    )
    table = stages.slowest([stage("ingest").model_copy(update={"seconds": 10.0}), slow]).blocks[0]
    assert isinstance(table, Table)
    assert [[cell.text for cell in row] for row in table.cells] == [
        ["clean", "30.0", "75.0%", "5.0 kB", "–", "2.0 GB", "–"],
        ["ingest", "10.0", "25.0%", "–", "–", "–", "–"],
    ]
    assert stages.balance([]).blocks[0] == Text(
        "Nothing was measured: run the stages again, or the whole pipeline."
    )
    assert stage_metrics.FEW_RECORDS == 10_000
