"""The Spark session: the sources of its settings, and Delta with only the cached jars."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from common.errors import UsageError
from etl.spark import python_daemon, session
from tests.setup.scripts import executable


def test_a_delta_table_is_written_and_read_back_without_deletion_vectors(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [("a", 1), ("b", 2)]
    spark.createDataFrame(rows, "id string, n int").write.format("delta").save(str(tmp_path / "table"))
    table = spark.read.format("delta").load(str(tmp_path / "table"))
    assert sorted((row.id, row.n) for row in table.collect()) == rows
    properties = spark.sql(f"SHOW TBLPROPERTIES delta.`{tmp_path / 'table'}`").collect()
    assert {row.key: row.value for row in properties}.get("delta.enableDeletionVectors", "false") == "false"


def test_the_session_speaks_utc_and_runs_few_shuffle_tasks(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.conf.get("spark.sql.shuffle.partitions") == "4"
    assert spark.sparkContext.master == "local[2]"


def test_the_running_session_is_returned_and_takes_changes_of_modifiable_settings(
    spark: SparkSession,
) -> None:
    before = str(spark.conf.get("spark.sql.files.maxPartitionBytes"))
    again = session.build_session(
        "again", {"spark.sql.files.maxPartitionBytes": "1m", "spark.master": "local[7]"}
    )
    try:
        assert again.sparkContext is spark.sparkContext
        assert again.conf.get("spark.sql.files.maxPartitionBytes") == "1m"
        assert again.sparkContext.master == "local[2]"
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)


def test_local_settings_belong_to_local_masters_only() -> None:
    local = session.session_settings("local[3]")
    cluster = session.session_settings("spark://host:7077")
    assert local["spark.driver.host"] == "127.0.0.1"
    assert not {"spark.driver.host", "spark.driver.memory"} & set(cluster)
    assert cluster.items() <= local.items()


@pytest.mark.parametrize(
    ("master", "size", "expected"),
    [
        ("local[3]", None, "6"),
        ("local[1]", 10_000_000, "4"),
        ("local[2]", 10 << 30, "40"),
        ("spark://host:7077", None, None),  # Spark's own default
        ("spark://host:7077", 0, "4"),
        ("spark://host:7077", 10_000_000, "4"),
        ("yarn", (1 << 30) + 1, "33"),
    ],
)
def test_the_partitions_of_a_shuffle_follow_the_bytes(
    master: str, size: int | None, expected: str | None
) -> None:
    settings = session.session_settings(master, size)
    assert settings.get("spark.sql.shuffle.partitions") == expected
    assert settings.get("spark.databricks.delta.snapshotPartitions") == (expected and "2")


class UsersConf(dict[str, str]):
    """Spark's configuration after it has read the user's files."""

    def __init__(self, master: str) -> None:
        super().__init__({"spark.sql.shuffle.partitions": "9", "spark.master": master})

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def setIfMissing(self, key: str, value: str) -> None:
        self.setdefault(key, value)


@pytest.mark.parametrize("master", ["local[2]", "spark://host:7077"])
def test_a_users_own_number_of_partitions_wins(master: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: dict[str, str] = {}
    for name in ("SPARK_LOCAL_IP", "PYSPARK_PYTHON"):  # for what the session sets to be undone
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("SPARK_MASTER", master)
    monkeypatch.setattr(session, "SparkConf", lambda: UsersConf(master))
    monkeypatch.setattr(session, "SparkContext", mock.Mock(_gateway=None))
    monkeypatch.setattr(session, "delta_jars", lambda: [])
    monkeypatch.setattr(session, "_launch", lambda settings, java: launched.update(settings))
    for conf in (session._own_conf({"spark.ui.enabled": "true"}, 10), session._submitted_conf({}, 10)):
        assert conf.get("spark.sql.shuffle.partitions") == "9"
        assert conf.get("spark.databricks.delta.snapshotPartitions") == "2"  # where the user says nothing
    # What is given to Spark's launcher would win over the user's files.
    assert "spark.sql.shuffle.partitions" not in launched
    assert (launched["spark.master"], launched["spark.ui.enabled"]) == (master, "true")


@pytest.mark.parametrize(
    ("master", "local", "cores"),
    [
        ("local", True, 1),
        ("local[5]", True, 5),
        ("local[2,4]", True, 2),
        ("spark://localhost:7077", False, 1),
    ],
)
def test_masters_are_told_apart(master: str, local: bool, cores: int) -> None:
    assert session.is_local(master) is local
    assert session.local_cores(master) == cores


@pytest.mark.parametrize(
    ("settings", "size", "environment", "expected"),
    [
        ({"spark.master": "local[*]"}, 255_999_999, {}, session.SMALL_JAVA_OPTIONS),
        ({"spark.master": "local[*]"}, 256_000_000, {}, ""),
        ({"spark.master": "spark://host:7077"}, 1, {}, ""),
        ({"spark.master": "local", "spark.driver.extraJavaOptions": "-Da=b"}, 1, {}, "-Da=b"),
        ({"spark.master": "local"}, 1, {"JDK_JAVA_OPTIONS": "-XX:+UseG1GC"}, ""),
        ({"spark.master": "local"}, 1, {"JAVA_TOOL_OPTIONS": "-XX:+UseG1GC"}, ""),
    ],
)
def test_for_small_sources_code_is_not_optimised_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    size: int,
    environment: dict[str, str],
    expected: str,
) -> None:
    for name in session.JAVA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert session.java_options(settings, size) == expected
    assert session.java_options(settings, None) == settings.get("spark.driver.extraJavaOptions", "")


def test_workers_find_their_modules_imported_and_look_through_no_archives(spark: SparkSession) -> None:
    def found(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        archives = [path for path in (*sys.path, *sys.path_importer_cache) if "pyspark.zip" in path]
        loaded = sorted({"etl.rules.applying", "etl.sources.reading", "pandas"} & set(sys.modules))
        yield pa.RecordBatch.from_pydict({"loaded": [loaded], "archives": [archives]})

    schema = "loaded array<string>, archives array<string>"
    (row,) = spark.range(0, 1, 1, 1).mapInArrow(found, schema).collect()
    assert (row.loaded, row.archives) == (["etl.rules.applying", "etl.sources.reading", "pandas"], [])


def test_archives_stay_on_the_path_where_pyspark_is_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ["/folder", "/spark/pyspark.zip", "/spark/py4j-0.10.9.9-src.zip", "/own.zip"]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("sys.path", list(path))
    python_daemon.without_archives()
    assert sys.path == path
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    python_daemon.without_archives()
    assert sys.path == ["/folder", "/own.zip"]


def test_missing_jars_name_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="make setup"):
        session.delta_jars()


def test_a_java_machine_that_does_not_start_is_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    said = "NOTE: Picked up JDK_JAVA_OPTIONS\nCould not reserve enough space for 999g object heap"
    executable(tmp_path / "java" / "bin" / "java", f"echo '{said}' >&2; exit 1")
    monkeypatch.setenv("SPARK_HOME", "")  # for what the session sets to be undone
    with pytest.raises(UsageError, match=r"did not start: Could not reserve .* 999g .*in logs/spark-tests-"):
        session._launch({"spark.master": "local[1]", "spark.app.name": "tests"}, "")


def test_progress_counts_the_tasks_of_the_block(
    spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    with session.spark_progress(spark, "counting", seconds=0.05):
        spark.sparkContext.parallelize(range(6), 6).map(lambda number: __import__("time").sleep(0.2)).count()
    lines = [line for line in capsys.readouterr().err.splitlines() if "counting" in line]
    assert "6/6 (100%) tasks" in lines[-1]
