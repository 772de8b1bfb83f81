"""The first part of the set-up: what it finds, what it installs once, and what it only names."""

import os
import pwd
from pathlib import Path

import pytest

from tests.setup.scripts import executable, run


def java(version: str) -> str:
    """Return the script of a Java of that version."""
    return f"echo 'openjdk version \"{version}\"' >&2"


def fake_python(path: Path, version: str, lacks: str = "nothing") -> None:
    """Make a Python of that version that can run everything except imports of `lacks`."""
    executable(path, f"""[[ "$2" != *version_info* ]] || echo {version}; [[ "$*" != *{lacks}* ]]""")


def test_the_newest_python_that_runs_is_taken_and_kept(checkout: Path) -> None:
    tools, script = checkout.parent / "bin", checkout / "setup" / "find.sh"
    executable(script, "source setup/common.sh; find_python")

    def found(**variables: str) -> str:
        return run(checkout, "find.sh", **variables).stdout.strip()

    assert found() == ""
    fake_python(tools / "python3", "3.10")
    assert found() == ""
    fake_python(tools / "python3.11", "3.11")
    executable(tools / "python3.13", "exit 127")  # pyenv's, which only prints where it is
    assert found() == str(tools / "python3.11")
    of_pyenv = checkout.parent / "home" / ".pyenv" / "versions" / "3.12.9" / "bin" / "python3.12"
    fake_python(of_pyenv, "3.12")
    assert found() == str(of_pyenv)
    assert found(PYTHON="python3.11") == str(tools / "python3.11")
    assert found(PYTHON="python3.12") == str(of_pyenv)
    fake_python(tools / "python3.13", "3.13t")  # free-threaded
    assert found() == str(of_pyenv)
    (checkout / ".venv" / ".ringlake").mkdir(parents=True)
    (checkout / ".venv" / ".ringlake" / "python").write_text(f"{tools}/python3.11\n")
    assert found() == str(tools / "python3.11")
    assert found(PYTHON="python3") == ""  # the requested one, or nothing
    refused = run(checkout, "prerequisites.sh", PYTHON="python3")
    assert (refused.returncode, "PYTHON=python3 is no Python 3.11" in refused.stderr) == (2, True)


def test_an_environment_of_somebody_else_is_never_removed(checkout: Path) -> None:
    fake_python(checkout.parent / "bin" / "python3.12", "3.12")
    theirs = checkout / ".venv" / "bin" / "activate"
    executable(theirs, "")
    refused = run(checkout, "venv.sh")
    assert refused.returncode == 2
    assert ".venv was not made by the set-up: move it away" in refused.stderr
    assert theirs.exists()


def test_what_a_python_lacks_is_asked_for_by_its_version(checkout: Path) -> None:
    executable(checkout.parent / "bin" / "dnf", "exit 1")
    fake_python(checkout.parent / "bin" / "python3.13", "3.13", lacks="Python.h")
    result = run(checkout, "prerequisites.sh")
    assert "sudo dnf install -y python3.13-devel java-17" in result.stderr


def test_elsewhere_than_on_debian_the_one_command_is_printed_and_nothing_is_done(checkout: Path) -> None:
    executable(checkout.parent / "bin" / "dnf", f"touch {checkout}/called")
    result = run(checkout, "prerequisites.sh")
    assert result.returncode == 2
    wanted = "python3.12 python3.12-devel java-17-openjdk-headless gcc-c++ cmake make patch"
    assert f"sudo dnf install -y {wanted}" in result.stderr
    assert not (checkout / "called").exists()


def test_an_unknown_system_hears_what_is_missing(checkout: Path) -> None:
    executable(checkout.parent / "bin" / "java", java("1.8.0_292"))
    executable(checkout.parent / "bin" / "g++", "true")
    result = run(checkout, "prerequisites.sh")
    assert result.returncode == 2
    python = "Python 3.11, 3.12 or 3.13, the venv module of Python, the header files of Python"
    assert result.stderr.strip().endswith(f"{python}, Java 17 or 21, cmake, make, patch")


def test_debian_without_rights_hears_the_command(checkout: Path) -> None:
    executable(checkout.parent / "bin" / "apt-get", f"touch {checkout}/called")
    executable(checkout.parent / "bin" / "id", "echo 1000")
    executable(checkout.parent / "bin" / "sudo", "exit 1")
    result = run(checkout, "prerequisites.sh")
    assert result.returncode == 2
    assert "sudo apt-get install -y --no-upgrade python3 python3-venv" in result.stderr
    assert not (checkout / "called").exists()


def test_debian_as_root_names_what_it_installs_then_installs_it(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    executable(tools / "id", "echo 0")
    packages = checkout.parent / "packages"
    executable(packages / "java", java("17.0.1"))
    for name in ("c++", "cmake", "make", "patch"):
        executable(packages / name, "true")
    fake_python(packages / "python3", "3.11")
    executable(
        tools / "apt-get", f'echo "$@" >> {checkout}/called; [[ "$1" == update ]] || cp {packages}/* {tools}'
    )
    result = run(checkout, "prerequisites.sh")
    announced = "python3 python3-venv python3-dev openjdk-17-jre-headless g++ cmake make patch"
    assert f"going to install with apt-get: {announced}" in result.stderr
    assert (checkout / "called").read_text().splitlines() == [
        "update",
        f"install -y --no-upgrade {announced}",
    ]
    assert result.returncode == 0, result.stderr
    assert run(checkout, "prerequisites.sh").returncode == 0
    assert len((checkout / "called").read_text().splitlines()) == 2


def test_what_is_installed_is_neither_upgraded_nor_installed_again(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    executable(tools / "id", "echo 0")
    executable(tools / "apt-get", f'echo "$@" >> {checkout}/called')
    for name in ("java", "c++", "make", "patch"):
        executable(tools / name, java("17.0.1"))
    fake_python(tools / "python3", "3.12", lacks="Python.h")
    executable(tools / "dpkg-query", '[[ "${*: -1}" != cmake ]] || echo "ii "')
    result = run(checkout, "prerequisites.sh")
    assert (checkout / "called").read_text().splitlines() == [
        "update",
        "install -y --no-upgrade python3.12-dev",
    ]
    assert (result.returncode, "still missing: the header files" in result.stderr) == (2, True)
    executable(tools / "dpkg-query", 'echo "ii "')
    again = run(checkout, "prerequisites.sh")
    assert "the packages python3.12-dev, cmake are installed, and yet this is missing" in again.stderr
    assert again.returncode == 2
    assert len((checkout / "called").read_text().splitlines()) == 2


@pytest.mark.parametrize("home", ["other", "nothing"])
def test_for_a_java_home_that_leads_elsewhere_nothing_is_installed(checkout: Path, home: str) -> None:
    tools, other = checkout.parent / "bin", checkout.parent / home
    executable(tools / "id", "echo 0")
    executable(tools / "apt-get", f"touch {checkout}/called")
    if home == "other":
        executable(other / "bin" / "java", java("25.0.1"))
    said = "is Java 25" if home == "other" else "is missing"
    refused = run(checkout, "prerequisites.sh", JAVA_HOME=str(other))
    assert f"{other}/bin/java {said}: unset JAVA_HOME, or set it" in refused.stderr
    executable(checkout.parent / "jvm" / "java-17" / "bin" / "java", java("17.0.1"))
    advised = run(checkout, "prerequisites.sh", JAVA_HOME=str(other))
    assert f"{said}: export JAVA_HOME={checkout.parent}/jvm/java-17" in advised.stderr
    assert (refused.returncode, advised.returncode) == (2, 2)
    assert not (checkout / "called").exists()


def test_an_installed_java_that_is_not_on_the_path_is_named_and_none_installed(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    executable(tools / "id", "echo 0")
    executable(tools / "apt-get", f"touch {checkout}/called")
    executable(tools / "java", java("11.0.2"))
    executable(checkout.parent / "jvm" / "java-21" / "bin" / "java", java("21.0.2"))
    result = run(checkout, "prerequisites.sh")
    said = f"Java 17 or 21 is needed, and java is Java 11: export JAVA_HOME={checkout.parent}/jvm/java-21"
    assert (result.returncode, said in result.stderr) == (2, True)
    assert not (checkout / "called").exists()


def test_neither_home_nor_pythonhome_nor_a_read_only_checkout_is_an_obstacle(checkout: Path) -> None:
    executable(checkout / "setup" / "show.sh", "source setup/common.sh; echo $CACHE${PYTHONHOME-}")
    (checkout / "logs").write_text("no folder can be made here")
    shown = run(checkout, "show.sh", HOME="", PYTHONHOME="/opt/conda")
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert (shown.returncode, shown.stdout.strip()) == (0, f"{home}/.cache/ringlake"), shown.stderr
