"""Shared by all tests: a Spark session for each worker, the demo's raw data, and marks by what a test uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from etl.spark.session import build_session
from etl.versions.building import run_stages
from tests.data_sets import made_once
from tests.faults.pipeline_runs import WITHOUT_GENERATED_CODE, PipelineFolder, write_files
from tests.kinds import ORDER, kind_of

# Tests are many small jobs in several Java machines; their code runs too seldom to repay the optimising compiler:
# without it a Delta write and read took 31 s of CPU time instead of 62. Without that compiler Java would reserve 48 MB
# for compiled code, which Spark fills: from then on Java drops what it compiled, and each publication takes twice as
# long. Java reads this variable at every start.
os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC"

CHECKOUT = Path(__file__).resolve().parents[1]
WORKER_BYTES = 4 << 30
"""Memory of a worker with its Spark session and the processes that its tests may start."""

# The time of an example means nothing on a machine that does other things as well.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its kind, and the benchmarks' own as thorough; the longest kind comes first."""
    kinds = {item: kind_of(item) for item in items}
    for item, kind in kinds.items():
        item.add_marker(kind)
        if (CHECKOUT / "tests" / "benchmarks") in item.path.parents:
            item.add_marker("thorough")
    items.sort(key=lambda item: ORDER.index(kinds[item]))


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than cores, since tests of processes mostly wait, as far as memory allows."""
    by_memory = int(psutil.virtual_memory().available // WORKER_BYTES)
    return max(1, min(len(os.sched_getaffinity(0)) + 1, by_memory))


@pytest.fixture(scope="session")
def licences_folder() -> Path:
    """Return the demo's raw data: the folder with `licenses` and `rules`."""
    folder = CHECKOUT / "data" / "licensedcode" / "licensedcode" / "data"
    assert folder.exists(), "the demo's raw data are missing: run `make data` once (it needs the network)"
    return folder


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Start the session of `etl.spark.session` on two local cores, with log and warehouse in a temporary folder."""
    folder: Path = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # logs/ follows the working folder
        session = build_session(
            "tests",
            {
                "spark.master": "local[2]",
                "spark.driver.memory": "1g",
                "spark.sql.shuffle.partitions": "4",
                "spark.databricks.delta.snapshotPartitions": "1",
                **WITHOUT_GENERATED_CODE,
                "spark.sql.warehouse.dir": str(folder / "warehouse"),
                "spark.local.dir": str(folder / "scratch"),
            },
        )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PipelineFolder:
    """Publish the small data set once for all workers; tests look at it, or change a copy of it.

    Its shuffles have other partitions than those of any other session.
    """

    def publish(folder: Path) -> None:
        write_files(folder / "files")
        made, spark = PipelineFolder(folder / "run", folder / "files"), request.getfixturevalue("spark")
        before = spark.conf.get("spark.sql.shuffle.partitions")
        spark.conf.set("spark.sql.shuffle.partitions", "7")
        try:
            run_stages(spark, made.config, 0.0, again=False)
        finally:
            spark.conf.set("spark.sql.shuffle.partitions", before)

    folder = made_once(tmp_path_factory, "small", publish)
    return PipelineFolder(folder / "run", folder / "files")
