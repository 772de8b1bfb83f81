"""Conditions that Spark needs of its environment, checked before anything is written.

Each is one sentence with status 2; what can be set right without the user (the encoding of paths, the own Python, an
address for a host without one) is set for the Java machine that a local master starts.
"""

import locale
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from common.errors import UsageError

JAVA_VERSIONS = (17, 21)
"""Versions of Java that every Spark 4 is released for; the tests run on the first.

Spark 4.2 also names 25, which is refused until the tests have run on it.
"""
_PICKED_UP = re.compile(r"(NOTE: )?Picked up ")
_MASTER = re.compile(r"local(\[(\*|[1-9]\d*)(, *\d+)?\])?|local-cluster\[.+\]|yarn|(?!spark:)\w+://.+")
_ADDRESS = re.compile(r"[^\s:/]+:\d+|\[[^\s\]]+\]:\d+")
_HEAP = re.compile(r"(\d+)([kmgt])", re.IGNORECASE)
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_GIB = 1 << 30
SMALLEST_HEAP = 512 << 20
"""Bytes of heap below which Spark does not start (471,859,200), rounded up."""
LARGEST_HEAP = 4 * _GIB
"""Heap where memory is no concern."""


def check_environment(local: bool) -> None:
    """Raise UsageError, with what to do, where Spark could not start here, or executors not reach this machine."""
    check_user()
    check_java()
    check_scratch()
    if local:
        check_heap()
    else:
        check_host()


def check_java() -> None:
    """Raise UsageError where the Java that Spark would start is missing, does not run, or has another version.

    Spark starts `$JAVA_HOME/bin/java`, or the `java` of the PATH where JAVA_HOME is not set.
    """
    home = os.environ.get("JAVA_HOME")
    needed = f"Java {' or '.join(map(str, JAVA_VERSIONS))} is needed"
    here = f"JAVA_HOME is {home}" if home else "JAVA_HOME is not set"
    remedy = f"set JAVA_HOME to the folder of such a Java{_suggestion()}"
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        lacking = "which has no bin/java" if home else "and no java is on the PATH"
        raise UsageError(f"{needed}; {here}, {lacking}: {remedy}")
    try:
        answer = subprocess.run(
            [java, "-version"], capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{needed}; {here}, and {java} does not run ({error}): {remedy}") from error
    said = answer.stderr + answer.stdout
    found = _VERSION.search(said)
    if answer.returncode or found is None:
        lines = said.strip().splitlines()
        chosen = [line for line in lines if _PICKED_UP.match(line)]
        first = next((line for line in lines if line not in chosen), "it prints nothing")
        if chosen:
            remedy = "correct JDK_JAVA_OPTIONS or JAVA_TOOL_OPTIONS, whose options it has picked up"
        raise UsageError(f"{needed}; {here}, and {java} does not start ({first}): {remedy}")
    if int(found[1]) not in JAVA_VERSIONS:
        which = f"which is Java {found[1]}" if home else f"and {java} is Java {found[1]}"
        raise UsageError(f"{needed}; {here}, {which}: {remedy}")


def _suggestion(folder: Path = Path("/usr/lib/jvm")) -> str:
    """Return the folder of an installed Java that would do, as the end of a sentence; empty where none is found."""
    for version in JAVA_VERSIONS:
        for found in sorted(folder.glob(f"*{version}*")):
            if re.search(rf"(?<!\d){version}(?!\d)", found.name) and (found / "bin" / "java").exists():
                return f", such as {found}"
    return ""


def check_user() -> None:
    """Raise UsageError for a user without a name, whom Spark's Hadoop cannot log in."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError as error:
        raise UsageError(
            f"the user with the number {os.getuid()} has no name on this machine, and Spark's Hadoop needs one: add a "
            "line for it to /etc/passwd (in a container in its image), or run as a user that is there"
        ) from error


def check_scratch() -> None:
    """Raise UsageError where the temporary folder, in which Spark starts and keeps its scratch, takes no file."""
    folder = scratch_folder()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * (1 << 20))
            file.flush()
    except OSError as error:
        raise UsageError(
            f"the temporary folder {folder or ', '.join(_candidates())} cannot be written to "
            f"({error.strerror or error}): make room in it, or set TMPDIR to another folder"
        ) from error


def scratch_folder() -> str | None:
    """Return the folder for temporary files: TMPDIR where that is set, else what Python finds; None: there is none."""
    given = os.environ.get("TMPDIR")
    if given:
        return given
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return None


def _candidates() -> list[str]:
    return ["/tmp", "/var/tmp", os.getcwd()]


def check_heap() -> None:
    """Raise UsageError where RINGLAKE_DRIVER_MEMORY is no size of a heap that Spark starts with."""
    given = os.environ.get("RINGLAKE_DRIVER_MEMORY")
    if not given:
        return
    match = _HEAP.fullmatch(given)
    if match is None or int(match[1]) << 10 * ("kmgt".index(match[2].lower()) + 1) < SMALLEST_HEAP:
        raise UsageError(
            f"RINGLAKE_DRIVER_MEMORY is {given!r}, but Spark needs a number with a unit, such as 4g or 512m, and at "
            "least 512m: correct it, or unset it"
        )


def check_host() -> None:
    """Raise UsageError where executors on other machines could not find the driver on this one."""
    if os.environ.get("SPARK_LOCAL_IP") or os.environ.get("SPARK_LOCAL_HOSTNAME"):
        return
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        raise UsageError(
            f"the name of this machine, {name}, leads to no address ({error}), and executors need one to reach the "
            "driver: add the name to /etc/hosts, or set SPARK_LOCAL_IP to an address of this machine"
        ) from error


def check_master(master: str, seconds: float = 5.0) -> None:
    """Raise UsageError for what is no master, and where nothing answers at the address of a standalone one.

    Spark would seek that for minutes. Of several, `spark://a:7077,b:7077`, one is enough.
    """
    addresses = master.removeprefix("spark://").split(",") if master.startswith("spark://") else []
    if not (_MASTER.fullmatch(master) or (addresses and all(map(_ADDRESS.fullmatch, addresses)))):
        raise UsageError(
            f"{master!r} is no Spark master: correct SPARK_MASTER or --master, for instance to local[*], local[2] or "
            "spark://HOST:7077"
        )
    failures = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), seconds).close()
        except (OSError, OverflowError) as error:
            failures.append(f"{address}: {error}")
        else:
            return
    if failures:
        raise UsageError(
            f"no Spark master answers at {master} ({'; '.join(failures)}): start it, or correct SPARK_MASTER or "
            "--master"
        )


def check_names(root: str, encoding: str) -> None:
    """Raise UsageError where a Java machine that runs already cannot name the folder of a data set."""
    if not root.isascii() and encoding.upper().replace("-", "") != "UTF8":
        raise UsageError(
            f"Java names files in {encoding} here, in which {root} cannot be written: submit with LC_ALL=C.UTF-8, or "
            "choose a dataset.root of ASCII characters"
        )


def set_right(environment: MutableMapping[str, str], local: bool) -> None:
    """Set the variables with which Spark's Java machine finds this Python, its own address, and names of files.

    On a cluster the workers' Python and the driver's address are the user's to choose.
    """
    if locale.getencoding().upper().replace("-", "") != "UTF8" and sys.getfilesystemencoding() == "utf-8":
        # As Python does by itself (PEP 540): in the locale C, Java would take each letter beyond ASCII for `?`.
        environment["LC_ALL"] = "C.UTF-8"
    if local:
        environment["PYSPARK_PYTHON"] = sys.executable
        environment.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    else:
        environment.setdefault("PYSPARK_PYTHON", sys.executable)


def default_driver_memory(root: Path = Path("/")) -> str:
    """Return the size of the driver's heap, in which a local master also runs its tasks, as Java takes it.

    RINGLAKE_DRIVER_MEMORY, else 4 GiB, or half of what this machine or container has where that is less: the other
    half is for Python's workers and for what Java keeps outside its heap.
    """
    given = os.environ.get("RINGLAKE_DRIVER_MEMORY")
    if given:
        return given
    heap = min(LARGEST_HEAP, max(SMALLEST_HEAP, memory_limit(root) // 2))
    return f"{heap >> 20}m" if heap < LARGEST_HEAP else "4g"


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes that this process may use: the machine's memory, or a lower limit of one of its cgroups.

    Reads `memory.max` of cgroup v2 and `memory.limit_in_bytes` of v1, of the process's own group and all above it,
    below `root` (the kernel's documentation, admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_cgroup_limits(root)])


def _cgroup_limits(root: Path) -> list[int]:
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    limits = []
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the group's path may be that of the host, and its own group the mount itself.
        own = mount / group.lstrip("/")
        for folder in {mount, own, *(p for p in own.parents if p.is_relative_to(mount))}:
            try:
                text = (folder / name).read_text(encoding="utf-8").strip()
            except OSError:
                continue
            if text.isdecimal() and int(text) > 0:  # v2 says `max` where there is no limit
                limits.append(int(text))
    return limits
