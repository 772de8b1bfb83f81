"""Spark's environment: what is refused with one sentence before anything is written, and what is set right."""

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException

from common.errors import DataError, RinglakeError, UsageError
from etl.runs.environment_errors import environment_errors_explained
from etl.spark import environment, session
from schemas.config import load
from tests.etl.sources.source_files import write_toml
from tests.faults.pipeline_runs import PipelineFolder, write_files
from tests.setup.scripts import executable


def java_home(folder: Path, script: str) -> str:
    """Make a folder with a `java` that is this shell script."""
    executable(folder / "bin" / "java", script)
    return str(folder)


def says(version: str) -> str:
    return f"echo 'openjdk version \"{version}\" 2025-01-01' >&2"


@pytest.mark.parametrize("version", ["17.0.15", "21", "21.0.2"])
def test_a_java_that_spark_supports_is_taken(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"echo 'NOTE: Picked up JDK_JAVA_OPTIONS: -Dversion=\"8\"' >&2; {says(version)}"
    monkeypatch.setenv("JAVA_HOME", java_home(tmp_path, script))
    environment.check_java()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (says("25.0.1"), "which is Java 25"),
        (says("1.8.0_292"), "which is Java 8"),
        ("echo 'Unrecognized VM option' >&2; exit 1", "does not start (Unrecognized VM option)"),
        ("exit 0", "does not start (it prints nothing)"),
        (
            "printf 'NOTE: Picked up JDK_JAVA_OPTIONS: -XX:Foo\\nUnrecognized VM option' >&2; exit 1",
            "does not start (Unrecognized VM option): correct JDK_JAVA_OPTIONS or JAVA_TOOL_OPTIONS",
        ),
    ],
)
def test_another_java_is_refused_by_its_version(
    script: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", java_home(tmp_path / "java", script))
    with pytest.raises(UsageError) as raised:
        environment.check_java()
    assert f"Java 17 or 21 is needed; JAVA_HOME is {tmp_path / 'java'}, " in str(raised.value)
    assert told in str(raised.value)
    assert raised.value.exit_status == 2


def test_a_missing_java_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="which has no bin/java"):
        environment.check_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="JAVA_HOME is not set, and no java is on the PATH"):
        environment.check_java()
    java_home(tmp_path, says("11.0.2"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(UsageError, match=f"and {tmp_path}/bin/java is Java 11"):
        environment.check_java()


def test_a_user_without_a_name_is_told_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    environment.check_user()
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UsageError, match=f"the user with the number {os.getuid()} has no name.*/etc/passwd"):
        environment.check_user()


def test_a_temporary_folder_that_takes_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    environment.check_scratch()
    assert environment.scratch_folder() == str(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=f"{tmp_path}/gone cannot be written to .*set TMPDIR"):
        environment.check_scratch()
    monkeypatch.setenv("TMPDIR", "/dev/full")
    with pytest.raises(UsageError, match="/dev/full cannot be written to"):
        environment.check_scratch()


def test_a_host_name_without_an_address_matters_to_a_cluster_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.gethostname", lambda: "no-such-host.invalid")
    monkeypatch.setattr(environment, "check_java", lambda: None)
    environment.check_environment(local=True)
    with pytest.raises(UsageError, match=r"no-such-host\.invalid, leads to no address .*SPARK_LOCAL_IP"):
        environment.check_environment(local=False)
    monkeypatch.setenv("SPARK_LOCAL_IP", "192.0.2.1")
    environment.check_environment(local=False)


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ANSI_X3.4-1968", "C.UTF-8"), ("UTF-8", "C"), ("utf8", "C")]
)
def test_java_reads_names_of_files_as_python_does(
    encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locale.getencoding", lambda: encoding)
    variables = {"LC_ALL": "C"}
    environment.set_right(variables, local=True)
    assert variables["LC_ALL"] == expected


def test_a_local_master_runs_its_own_python_on_its_own_address() -> None:
    variables = {"PYSPARK_PYTHON": "/another/python", "SPARK_LOCAL_IP": "192.0.2.1"}
    environment.set_right(variables, local=False)
    assert variables["PYSPARK_PYTHON"] == "/another/python"  # that of the workers' machines
    environment.set_right(variables, local=True)
    assert variables == {**variables, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "192.0.2.1"}
    unset: dict[str, str] = {}
    environment.set_right(unset, local=True)
    assert (unset["PYSPARK_PYTHON"], unset["SPARK_LOCAL_IP"]) == (sys.executable, "127.0.0.1")


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
UNLIMITED = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("tree", "heap"),
    [
        ({}, "4g"),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{3 << 30}\n"}, "1536m"),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "max\n"}, "4g"),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/memory.max": "max\n",
                f"{V2}/a/memory.max": f"{2 << 30}\n",
            },
            "1024m",
        ),
        # In a container the path is that of the host, and the mount is the container's own group.
        ({"proc/self/cgroup": "0::/kubepods/x\n", f"{V2}/memory.max": f"{2 << 30}\n"}, "1024m"),
        (
            {
                "proc/self/cgroup": "12:cpu,cpuacct:/a\n5:memory:/a\n0::/\n",
                f"{V1}/a/memory.limit_in_bytes": f"{4 << 30}\n",
                f"{V1}/memory.limit_in_bytes": UNLIMITED,
            },
            "2048m",
        ),
        ({"proc/self/cgroup": "5:memory:/host/a\n", f"{V1}/memory.limit_in_bytes": f"{600 << 20}\n"}, "512m"),
    ],
)
def test_the_heap_follows_the_memory_of_the_container(
    tree: dict[str, str], heap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RINGLAKE_DRIVER_MEMORY", raising=False)
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (64 << 30) // 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    assert environment.default_driver_memory(files(tmp_path, tree)) == heap
    monkeypatch.setenv("RINGLAKE_DRIVER_MEMORY", "7g")
    assert environment.default_driver_memory(tmp_path) == "7g"


def test_the_heap_follows_the_memory_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGLAKE_DRIVER_MEMORY", raising=False)
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (2 << 30) // 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    assert environment.default_driver_memory(tmp_path) == "1024m"


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (OSError(28, "No space left on device"), DataError, "a disk is full: that of {root}"),
        (Py4JError("java.io.IOException: No space left on device"), DataError, "a disk is full"),
        (
            PermissionError(13, "Permission denied", "/w/x"),
            UsageError,
            r"\[Errno 13\] Permission denied: '/w/x'\): look",
        ),
        (
            DeltaError("Generic error\nfailed to create a.parquet: Read-only file system (os error 30)"),
            UsageError,
            r"\(failed to create a.parquet: Read-only file system \(os error 30\)\)",
        ),
        (Py4JError("java.lang.OutOfMemoryError: Java heap space"), DataError, "out of heap: .*DRIVER_MEMORY"),
        (Py4JNetworkError("Answer from Java side is empty"), DataError, "Java machine has ended .*container"),
        (ConnectionRefusedError(111, "Connection refused"), DataError, "Java machine has ended"),
        (PySparkException("Python worker exited unexpectedly (crashed)"), DataError, "worker .* was killed"),
        (
            Py4JError(
                "java.io.UncheckedIOException: org.apache.hadoop.fs.ChecksumException: Checksum error: "
                "file:/w/_delta_log/2.json at 0 exp: 4628 got: 1633"
            ),
            DataError,
            r"/w/_delta_log/2\.json does not match its checksum, /w/_delta_log/\.2\.json\.crc: put it back",
        ),
        (PySparkException("[PYTHON_VERSION_MISMATCH] 3.11 3.13"), UsageError, "another version of Python"),
    ],
)
def test_errors_that_the_environment_causes_are_one_sentence(
    error: Exception, kind: type[RinglakeError], told: str, tmp_path: Path
) -> None:
    config = load(write_toml(tmp_path / "conf.toml", str(tmp_path)))
    told = told.format(root=tmp_path)
    with pytest.raises(kind, match=told), environment_errors_explained(config):
        raise error


def test_any_other_error_stays_what_it_is(tmp_path: Path) -> None:
    config = load(write_toml(tmp_path / "conf.toml", str(tmp_path)))
    for error in (OSError(5, "Input/output error"), PySparkException("a defect"), KeyError("disk")):
        with pytest.raises(type(error), match=str(error.args[-1])), environment_errors_explained(config):
            raise error


def test_a_session_that_runs_needs_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(local: bool) -> None:
        raise UsageError("no")

    monkeypatch.setattr(session, "check_environment", refuse)
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", None)
    with pytest.raises(UsageError):
        session.check_startable("/data")
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", object())
    session.check_startable("/data")
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", None)
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")  # under spark-submit Java runs already
    monkeypatch.setattr(session, "submitted_master", lambda: "local[2]")
    monkeypatch.setattr(session, "java_encoding", lambda: "UTF-8")
    session.check_startable("/data")
    monkeypatch.setattr(session, "submitted_master", lambda: "spark://127.0.0.1:0")
    with pytest.raises(UsageError, match="no Spark master answers"):
        session.check_startable("/data")


def test_a_master_that_does_not_answer_is_told_before_spark_seeks_it() -> None:
    with socket.socket() as master, socket.socket() as nobody:
        master.bind(("127.0.0.1", 0))
        master.listen()
        nobody.bind(("127.0.0.1", 0))
        there, gone = (f"127.0.0.1:{one.getsockname()[1]}" for one in (master, nobody))
        for answering in (
            "local[2]",
            "yarn",
            "k8s://https://h:6443",
            f"spark://{there}",
            f"spark://{gone},{there}",
        ):
            environment.check_master(answering)
        for silent in (f"spark://{gone}", "spark://127.0.0.1:99999"):
            with pytest.raises(
                UsageError, match=f"no Spark master answers at {silent} .*correct SPARK_MASTER"
            ):
                environment.check_master(silent)


@pytest.mark.parametrize(
    "master", ["local[0]", "local[*", "local[two]", "lcoal[2]", "", "spark://", "spark://host", "spark://a:b"]
)
def test_what_is_no_master_is_told(master: str) -> None:
    with pytest.raises(UsageError, match="is no Spark master: correct SPARK_MASTER"):
        environment.check_master(master)


@pytest.mark.parametrize("master", ["local", "local[*]", "local[2,3]", "local-cluster[2,1,1024]"])
def test_every_local_master_is_one(master: str) -> None:
    environment.check_master(master)


@pytest.mark.parametrize("heap", ["lots", "4gb", "4096", "10m", "256m", "511m", "-1g"])
def test_what_is_no_heap_is_told(heap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLAKE_DRIVER_MEMORY", heap)
    with pytest.raises(UsageError, match=f"RINGLAKE_DRIVER_MEMORY is '{heap}', but Spark needs"):
        environment.check_heap()
    for right in ("512m", "4g", "1T", ""):
        monkeypatch.setenv("RINGLAKE_DRIVER_MEMORY", right)
        environment.check_heap()


def test_a_root_that_java_cannot_name_is_told() -> None:
    environment.check_names("/data/wh\u00e9", "UTF-8")
    environment.check_names("/data/wh", "ANSI_X3.4-1968")
    with pytest.raises(UsageError, match=r"ANSI_X3\.4-1968 here, in which .*LC_ALL=C\.UTF-8"):
        environment.check_names("/data/wh\u00e9", "ANSI_X3.4-1968")


def test_a_heap_of_the_users_defaults_is_left_to_spark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARK_CONF_DIR", raising=False)
    assert not session._user_sets("spark.driver.memory")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert not session._user_sets("spark.driver.memory")
    (tmp_path / "spark-defaults.conf").write_text("# spark.driver.memory 1g\nspark.driver.memory\t2g\n")
    assert session._user_sets("spark.driver.memory")
    assert not session._user_sets("spark.driver")


@pytest.mark.parametrize("name", ["openjdk-17", "java-17-openjdk-amd64", "jdk21", "temurin-21.0.2"])
def test_an_installed_java_is_suggested(name: str, tmp_path: Path) -> None:
    for other in ("java-117", "jdk-170", name):
        java_home(tmp_path / other, says("17"))
    assert environment._suggestion(tmp_path) == f", such as {tmp_path / name}"


@pytest.mark.parametrize("command", ["pipeline", "ingest"])
def test_with_another_java_a_command_ends_before_it_writes_anything(command: str, tmp_path: Path) -> None:
    write_files(tmp_path / "files")
    folder = PipelineFolder(tmp_path / "run", tmp_path / "files")
    before = sorted(folder.folder.rglob("*"))
    home = java_home(tmp_path / "java", says("25.0.1"))
    done = subprocess.run(
        [sys.executable, "-m", f"etl.{command}", "--config", str(folder.conf)],
        cwd=folder.folder,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "JAVA_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, ""), done.stderr
    assert done.stderr.startswith(f"error: Java 17 or 21 is needed; JAVA_HOME is {home}, which is Java 25: ")
    assert sorted(folder.folder.rglob("*")) == before
