"""Cost of each stage of the pipeline: seconds, bytes in and out, memory, and the balance of its shuffles.

Most of it comes from Spark's own metrics of its tasks, which the driver keeps in its status store, whatever the
master, with or without the web interface. They are collected at the end of each stage of the pipeline and kept as
`quality/stages/<stage>.json`, from where the report shows them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from py4j.protocol import Py4JJavaError
from pydantic import BaseModel, ConfigDict, ValidationError
from pyspark.sql import SparkSession

from common import storage
from common.errors import DataError
from common.progress import log
from etl.lake.log import open_table
from etl.runs.process_memory import PeakMemory
from schemas.config import STAGES, Configuration
from schemas.tables import Layout

FEW_RECORDS = 10_000
"""Records of a shuffle below which the tasks' shares say nothing: other things decide which task takes how long."""
_EVENTS_MS = 30_000


class Shuffle(BaseModel):
    """Shuffled data read by the tasks of one of Spark's stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: int
    records: int
    median_records: float
    largest_records: int

    @property
    def ratio(self) -> float:
        """Ratio of the largest task's records to those of the median one."""
        return self.largest_records / max(1.0, self.median_records)


class StageMetrics(BaseModel):
    """One stage of the pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    shuffles: list[Shuffle]
    """In order of execution, without the stages of Spark that read no shuffle."""
    read_bytes: int
    written_bytes: int
    """Size on disk and on the network: serialised and compressed."""
    spilled_bytes: int
    """Written to disk because a sort or a join did not fit into memory."""
    salted_keys: int = 0
    seconds: float = 0.0
    input_bytes: int = 0
    """Read from tables, from frames that the stage persisted, and by `ingest` from the sources; compressed."""
    output_bytes: int = 0
    """Written to tables and, by `publish`, to shards."""
    peak_bytes: int = 0
    """Highest memory of the driver's process and its descendants (with a local master: everything)."""
    executor_heap_bytes: int = 0
    """Largest Java heap in use in any executor, by Spark's heartbeats."""

    @property
    def least_even(self) -> Shuffle | None:
        """Shuffle with the largest ratio among those of FEW_RECORDS or more; None where there is none."""
        judged = [shuffle for shuffle in self.shuffles if shuffle.records >= FEW_RECORDS]
        return max(judged, key=lambda shuffle: shuffle.ratio, default=None)


def newest_spark_stage(spark: SparkSession) -> int:
    """Return the number of the newest of Spark's stages, -1 before the first; `metrics_since` begins after it."""
    newest = next(_spark_stages(spark), None)
    return -1 if newest is None else int(newest.stageId())


@dataclass
class OwnFigures:
    """Figures that a stage adds itself."""

    salted_keys: int = 0
    input_bytes: int = 0
    """Read by other means than Spark's own reader."""
    output_bytes: int = 0
    """Written by other means than Spark's own writer."""


@contextmanager
def measured(stage: str, spark: SparkSession, config: Configuration) -> Iterator[OwnFigures]:
    """Measure the body, and replace the figures of the stage's last run.

    Nothing is kept where the body raises.
    """
    own = OwnFigures()
    began, before, moment = time.monotonic(), newest_spark_stage(spark), datetime.now(UTC)
    with PeakMemory() as memory:
        yield own
        _add_bytes_beside_spark(stage, config, own, moment)
    found = metrics_since(spark, before, stage, own.salted_keys)
    more = {
        "seconds": round(time.monotonic() - began, 3),
        "input_bytes": found.input_bytes + own.input_bytes,
        "output_bytes": found.output_bytes + own.output_bytes,
        "peak_bytes": memory.peak,
    }
    keep(found.model_copy(update=more), config)


def metrics_since(spark: SparkSession, before: int, stage: str, salted_keys: int = 0) -> StageMetrics:
    """Return the metrics of all of Spark's stages after the number `before`, under the name `stage`."""
    found, read, written, spilled = [], 0, 0, 0
    into = out = heap = 0
    for data in _spark_stages(spark):
        if data.stageId() <= before:
            break
        into += data.inputBytes()
        out += data.outputBytes()
        heap = max(heap, _heap(data))
        written += data.shuffleWriteBytes()
        spilled += data.diskBytesSpilled()
        read += data.shuffleReadBytes()
        if data.shuffleReadRecords() and (shuffle := _shuffle(spark, data)) is not None:
            found.append(shuffle)
    return StageMetrics(
        stage=stage,
        shuffles=found[::-1],
        read_bytes=read,
        written_bytes=written,
        spilled_bytes=spilled,
        salted_keys=salted_keys,
        input_bytes=into,
        output_bytes=out,
        executor_heap_bytes=heap,
    )


def _add_bytes_beside_spark(stage: str, config: Configuration, own: OwnFigures, since: datetime) -> None:
    """Add the bytes that a stage reads or writes past Spark: the files of `ingest`, the shards of `publish`."""
    layout = Layout.of(config)
    if stage == "ingest" and (sources := open_table(layout.sources, config.storage)) is not None:
        files = sources.to_pyarrow_dataset().to_table(columns=["bytes", "ingested"])
        new = files.filter(pc.greater_equal(files["ingested"], pa.scalar(since, files["ingested"].type)))
        own.input_bytes += pc.sum(new["bytes"]).as_py() or 0
    if stage == "publish" and (gold := open_table(layout.shards, config.storage)) is not None:
        own.output_bytes += sum(gold.get_add_actions(flatten=True).column("size_bytes").to_pylist())


def _heap(data: Any) -> int:
    """Return the largest Java heap in use while one of Spark's stages ran; 0 where no heartbeat came in that time."""
    peaks = data.peakExecutorMetrics()
    return int(peaks.get().getMetricValue("JVMHeapMemory")) if peaks.isDefined() else 0


def _spark_stages(spark: SparkSession) -> Iterator[Any]:
    """Yield Spark's stages, the newest first, once all that has ended is in the store."""
    context: Any = spark.sparkContext._jsc.sc()
    try:
        context.listenerBus().waitUntilEmpty(_EVENTS_MS)
    except Py4JJavaError:
        # A stage that has done its work does not fail because its figures are late.
        log("warning: Spark's events lag behind, so the shuffle statistics may be incomplete")
    jvm: Any = spark.sparkContext._jvm
    stages = context.statusStore().stageList(None, False, False, _doubles(spark), jvm.java.util.ArrayList())
    yield from (stages.apply(place) for place in range(stages.size()))


def _shuffle(spark: SparkSession, data: Any) -> Shuffle | None:
    # Spark takes the element at floor(q × tasks): just below a half and a half give the two in the middle.
    quantiles = _doubles(spark, 0.5 - 1e-9, 0.5, 1.0)
    store = spark.sparkContext._jsc.sc().statusStore()
    summary = store.taskSummary(data.stageId(), data.attemptId(), quantiles)
    if summary.isEmpty():  # the store keeps a limited number of tasks (spark.ui.retainedTasks)
        return None
    records = summary.get().shuffleReadMetrics().readRecords()
    low, high, largest = (float(records.apply(place)) for place in range(3))
    return Shuffle(
        tasks=data.numCompleteTasks(),
        records=data.shuffleReadRecords(),
        median_records=(low + high) / 2,
        largest_records=int(largest),
    )


def _doubles(spark: SparkSession, *values: float) -> Any:
    gateway: Any = spark.sparkContext._gateway
    array = gateway.new_array(gateway.jvm.double, len(values))
    for place, value in enumerate(values):
        array[place] = value
    return array


def keep(found: StageMetrics, config: Configuration) -> None:
    """Replace the figures of the stage's last run."""
    content = found.model_dump_json(indent=1).encode() + b"\n"
    storage.write_bytes(_location(config, found.stage), content, config.storage)


def persisted(config: Configuration) -> list[StageMetrics]:
    """Return the figures of the last run of each stage, in order, without stages that never ran.

    Raises DataError for a file that holds something else.
    """
    found = []
    for location in (_location(config, stage) for stage in STAGES):
        if storage.exists(location, config.storage):
            content = storage.read_bytes(location, config.storage)
            try:
                found.append(StageMetrics.model_validate_json(content))
            except ValidationError as error:
                raise DataError(f"{location} is damaged: remove it, or run that stage again") from error
    return found


def _location(config: Configuration, stage: str) -> str:
    return storage.join(Layout.of(config).quality, "stages", f"{stage}.json")
