"""What all tests share: one Spark session for the whole run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl.session import build_session


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session of `etl.session` on two local cores; its log and warehouse lie in a temporary folder."""
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
