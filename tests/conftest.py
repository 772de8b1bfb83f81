"""What all tests share: one Spark session for the whole run."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from etl.spark.session import build_session

# Tests are many small jobs in several Java machines, and their code runs too seldom to repay the optimising compiler:
# without it a Delta write and read took 31 s of CPU time instead of 62. Java reads this variable wherever it starts.
os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

CHECKOUT = Path(__file__).resolve().parents[1]

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def licences_folder() -> Path:
    """The demo's raw data: the folder with `licenses` and `rules`, unpacked by the set-up where it is not there yet."""
    folder = CHECKOUT / "data" / "licensedcode" / "licensedcode" / "data"
    if not folder.exists():
        subprocess.run(["bash", "setup/data.sh"], cwd=CHECKOUT, check=True)
    return folder


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session of `etl.spark.session` on two local cores; its log and warehouse lie in a temporary folder."""
    folder: Path = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # logs/ follows the working folder
        session = build_session(
            "tests",
            {
                "spark.master": "local[2]",
                "spark.driver.memory": "2g",
                "spark.sql.shuffle.partitions": "4",
                "spark.sql.warehouse.dir": str(folder / "warehouse"),
                "spark.local.dir": str(folder / "scratch"),
            },
        )
    yield session
    session.stop()
