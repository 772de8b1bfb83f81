"""Spark session of every stage: started here for `python -m`, the submitted one under `spark-submit`.

Started here, the Java machine's and the Python workers' output goes to `logs/spark-<application>-<time>.log`, whose
name is printed once; the terminal shows nothing of Spark's own. Under `spark-submit` the master, the jars and all
other settings of the submission stay as they are; only missing ones get a default.
"""

import importlib.metadata
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from common.command import LOG_FOLDER, log_folder
from common.errors import UsageError
from common.progress import Progress, log
from etl.spark.environment import (
    check_environment,
    check_master,
    check_names,
    default_driver_memory,
    set_right,
)
from etl.spark.partitions import shuffle_partitions
from provenance.checksums import cache_folder

# Printed by every stage. It concerns the pandas API, which nothing of ours uses.
warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)

SMALL_BYTES = 256_000_000
"""Size of the source files below which optimising code takes the Java machine more time than it saves."""
SMALL_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC"
JAVA_VARIABLES = ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS")
"""Environment variables by which a user chooses another compiler or collector."""
DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
DELTA_CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"

# Written by `make package` into spark.properties: the Python inside the environment archive. It exists only
# where Spark unpacks archives for executors, so `spark.pyspark.python` cannot hold it: that would break local
# masters.
EXECUTOR_PYTHON = "spark.ringlake.executor.python"

# Settings for every master. The session's time zone and the two switches on what Delta writes are part of what makes
# a published data set the same everywhere.
SHUFFLE_PARTITIONS = "spark.sql.shuffle.partitions"
USERS = (
    SHUFFLE_PARTITIONS,
    "spark.databricks.delta.snapshotPartitions",
    "spark.driver.memory",
    "spark.local.dir",
    "spark.ui.enabled",
)
"""Settings whose defaults give way to those of the user's `spark-defaults.conf` also where no `spark-submit` runs."""
COMMON: Mapping[str, str] = {
    "spark.sql.extensions": DELTA_EXTENSION,
    "spark.sql.catalog.spark_catalog": DELTA_CATALOG,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Batches of texts are bounded in bytes, not only in rows: a single text may have 64 MB.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),
    "spark.sql.adaptive.enabled": "true",
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    "spark.databricks.delta.properties.defaults.columnMapping.mode": "none",
    "spark.ui.showConsoleProgress": "false",
}


def delta_jars() -> list[Path]:
    """Return the Delta jars that `make setup` resolved and verified for the installed delta-spark and Spark.

    The folder appears under its name only when it is complete. Raises UsageError when it is missing.
    """
    version = importlib.metadata.version
    folder = cache_folder() / "jars" / f"delta-{version('delta-spark')}-spark-{version('pyspark')}"
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise UsageError(
            f"the Delta jars are missing from {folder}: run `make setup` once (it needs the network)"
        )
    return jars


def is_local(master: str) -> bool:
    """Return True for `local`, `local[4]`, `local[*]`, `local[4,2]`: driver and executor in one Java machine."""
    return master == "local" or master.startswith("local[")


def local_cores(master: str) -> int:
    """Return the number of tasks that a local master runs at a time."""
    match = re.match(r"local\[(\d+)", master)
    if match:
        return int(match.group(1))
    return len(os.sched_getaffinity(0)) if master.startswith("local[") else 1


def own_master(conf: Mapping[str, str] | None = None) -> str:
    """Return the master of a session started here: that of `conf`, else SPARK_MASTER, else `local[*]`."""
    return (conf or {}).get("spark.master") or os.environ.get("SPARK_MASTER") or "local[*]"


def check_startable(root: str) -> None:
    """Raise UsageError, before anything is written, where no session for the data set at `root` could be started here.

    Under `spark-submit` the Java machine runs already, and with a session there is nothing left to start.
    """
    if SparkContext._active_spark_context is not None:
        return
    if is_submitted():
        check_master(submitted_master())
        check_names(root, java_encoding())
        return
    check_master(own_master())
    check_environment(is_local(own_master()))
    delta_jars()


def submitted_master() -> str:
    """Return the master of the submission, from the Java machine of `spark-submit`."""
    SparkContext._ensure_initialized()
    return SparkConf().get("spark.master") or "local[*]"


def java_encoding() -> str:
    """Return the encoding of names of files in the Java machine of `spark-submit`."""
    jvm: Any = SparkContext._jvm
    return str(jvm.java.lang.System.getProperty("sun.jnu.encoding"))


def is_submitted() -> bool:
    """Return True under `spark-submit`, whose Java machine is running already."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def session_settings(master: str, source_bytes: int | None = None) -> dict[str, str]:
    """Return the defaults for `master`: those of every session, and for a local one settings for a small machine.

    `source_bytes` is the size of the source files, None where it is not known.
    """
    settings = dict(COMMON)
    partitions = shuffle_partitions(source_bytes, local_cores(master) if is_local(master) else None)
    if partitions is not None:
        # Spark's 200 shuffle tasks and Delta's 50 snapshot tasks are the whole cost of a small job, on any master.
        settings |= {SHUFFLE_PARTITIONS: str(partitions), "spark.databricks.delta.snapshotPartitions": "2"}
    if is_local(master):
        # A host name that resolves to an unreachable address would make the driver fail.
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": default_driver_memory(),
            "spark.ui.enabled": "false",
        }
    return settings


def build_session(
    app_name: str, conf: Mapping[str, str] | None = None, source_bytes: Callable[[], int | None] | None = None
) -> SparkSession:
    """Return the session of this process; reuse a running one.

    `conf` adds Spark settings or replaces our defaults, but never those of a submission. Outside `spark-submit` the
    master is `SPARK_MASTER` from the environment, else `local[*]`. `source_bytes` is called where no session runs: the
    partitions of shuffles follow it, and below SMALL_BYTES a Java machine that is started for a local master gets
    SMALL_JAVA_OPTIONS. Raises UsageError when the Delta jars are missing.
    """
    wanted = dict(conf or {})
    if SparkContext._active_spark_context is not None:
        return _active_session(wanted)
    size = None if source_bytes is None else source_bytes()
    if is_submitted():
        spark_conf = _submitted_conf(wanted, size)
    else:
        spark_conf = _own_conf({"spark.app.name": app_name, **wanted}, size)
    context = SparkContext(appName=app_name, conf=spark_conf)
    return SparkSession(context)


def _active_session(wanted: Mapping[str, str]) -> SparkSession:
    session = SparkSession.builder.getOrCreate()
    for key, value in wanted.items():
        if session.conf.isModifiable(key):
            session.conf.set(key, value)
    return session


def _submitted_conf(wanted: Mapping[str, str], source_bytes: int | None) -> SparkConf:
    master = submitted_master()
    conf = SparkConf()
    log(f"running on {master}; Spark's own messages go to {LOG_FOLDER}/, where dist/ was used to submit")
    for key, value in {**session_settings(master, source_bytes), **wanted}.items():
        conf.setIfMissing(key, value)
    if is_local(master):
        # The driver is the executor: it has this Python already, and nobody would use the unpacked environment.
        conf.set("spark.archives", "")
        os.environ["PYSPARK_PYTHON"] = sys.executable
    else:
        os.environ.setdefault("PYSPARK_PYTHON", conf.get(EXECUTOR_PYTHON, sys.executable) or sys.executable)
    jvm: Any = SparkContext._jvm
    if not jvm.org.apache.spark.util.Utils.classIsLoadable(DELTA_EXTENSION):
        raise UsageError(
            "the submission has no Delta jars: add `--properties-file dist/spark.properties`, "
            "which `make package` writes"
        )
    return conf


def _own_conf(wanted: Mapping[str, str], source_bytes: int | None) -> SparkConf:
    master = own_master(wanted)
    settings = {
        "spark.master": master,
        "spark.jars": ",".join(jar.as_uri() for jar in delta_jars()),
        **session_settings(master, source_bytes),
        # Not for spark-submit: its daemon does not have the archive that brings this package.
        **({"spark.python.daemon.module": "etl.spark.python_daemon"} if is_local(master) else {}),
        # Java by itself writes to /tmp, TMPDIR or not.
        **({"spark.local.dir": os.environ["TMPDIR"]} if os.environ.get("TMPDIR") else {}),
        **wanted,
    }
    set_right(os.environ, is_local(master))
    if (
        SparkContext._gateway is None
    ):  # an earlier session of this process may have left its Java machine running
        # The heap is needed at the start: only what the user has set may be left to Spark.
        left = [key for key in USERS if key != "spark.driver.memory" or _user_sets(key)]
        given = {key: value for key, value in settings.items() if key in wanted or key not in left}
        _launch(given, java_options(settings, source_bytes))
    conf = SparkConf()  # with what the Java machine has read from the user's files
    for key, value in settings.items():
        if key in wanted or key not in USERS:
            conf.set(key, value)
        else:
            conf.setIfMissing(key, value)
    return conf


def _user_sets(key: str) -> bool:
    """Return True where the user's `spark-defaults.conf` (in SPARK_CONF_DIR) has a setting."""
    folder = os.environ.get("SPARK_CONF_DIR")
    try:
        text = Path(folder, "spark-defaults.conf").read_text(encoding="utf-8") if folder else ""
    except OSError:
        return False
    return re.search(rf"^\s*{re.escape(key)}[\s=:]", text, re.MULTILINE) is not None


def java_options(settings: Mapping[str, str], source_bytes: int | None) -> str:
    """Return the options of the Java machine: the user's, else for a local master a choice by the sources' size."""
    given = settings.get("spark.driver.extraJavaOptions", "")
    chosen = given or any(os.environ.get(name) for name in JAVA_VARIABLES)
    if chosen or source_bytes is None or not is_local(settings["spark.master"]):
        return given
    return SMALL_JAVA_OPTIONS if source_bytes < SMALL_BYTES else ""


def _launch(settings: Mapping[str, str], java: str) -> None:
    """Start the Java machine with its output, and that of the Python workers it forks, in a log file."""
    # The Spark that belongs to this Python package, whatever other Spark the user's shell points to.
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    application = re.sub(
        r"\W+", "-", settings.get("spark.app.name", Path(sys.argv[0]).stem or "session")
    ).strip("-")
    log_path = log_folder() / f"spark-{application}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    log(f"starting Spark ({settings['spark.master']}); its own messages go to {log_path}")
    conf = SparkConf(loadDefaults=False)
    for key, value in settings.items():
        conf.set(key, value)
    with resources.as_file(resources.files("etl.spark") / "log4j2.properties") as logging:
        scratch = os.environ.get("TMPDIR")
        own = f'-Djava.io.tmpdir="{scratch}" ' if scratch else ""
        options = f"{own}-Dlog4j2.configurationFile={logging.as_uri()} {java}".rstrip()
        conf.set("spark.driver.extraJavaOptions", options)
        try:
            with log_path.open("ab") as output:
                gateway = launch_gateway(conf, {"stdout": output, "stderr": output})  # type: ignore[no-untyped-call]
        except PySparkRuntimeError as error:
            raise UsageError(
                f"Spark's Java machine did not start: {_complaint(log_path)} (its whole output is in {log_path})"
            ) from error
    SparkContext._ensure_initialized(gateway=gateway)


def _complaint(log_path: Path) -> str:
    """Return the first line of a log that speaks of an error, else its last line."""
    lines = [
        line for line in log_path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    ]
    about_errors = (
        line for line in lines if re.search("error|exception|could not|invalid", line, re.IGNORECASE)
    )
    return next(about_errors, (lines or ["it said nothing"])[-1]).strip()[:300]


@contextmanager
def spark_progress(spark: SparkSession, what: str, seconds: float = 1.0) -> Iterator[None]:
    """Show the progress of Spark's known tasks under the heading `what`, until the block ends.

    A thread asks Spark's status tracker every `seconds`. Stages that Spark skips, or adds on the way, correct the
    total.
    """
    ended = threading.Event()
    with Progress(what, None, "tasks") as progress:
        watcher = threading.Thread(target=_watch, args=(spark, progress, ended, seconds), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _watch(spark: SparkSession, progress: Progress, ended: threading.Event, seconds: float) -> None:
    tracker = spark.sparkContext.statusTracker()
    stages: dict[int, tuple[int, int]] = {}  # id: tasks done, tasks of the stage
    last = False
    while not last:
        last = ended.wait(seconds)  # one more poll after the end, so that the last line is complete
        active = tracker.getActiveStageIds()
        for stage in {*active, *(stage for stage, (done, total) in stages.items() if done < total)}:
            info = tracker.getStageInfo(stage)
            if info is not None:
                stages[stage] = (info.numCompletedTasks, info.numTasks)
        done, total = (sum(column) for column in zip(*stages.values(), strict=True)) if stages else (0, 0)
        if total:
            progress.grow(total)
        progress.update(done - progress.done, note=f"{len(active)} stages running")
