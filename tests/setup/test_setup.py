"""The set-up scripts, each in a small copy of the checkout, without network: what they refuse, skip and report."""

import hashlib
import hmac
import importlib.util
import os
import pwd
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from tests.setup.scripts import CHECKOUT, cache, executable, expect_end, run


def java(version: str) -> str:
    """Return the script of a Java of that version."""
    return f"echo 'openjdk version \"{version}\"' >&2"


def fake_python(path: Path, version: str, lacks: str = "nothing") -> None:
    """Make a Python of that version that can run everything except imports of `lacks`."""
    executable(path, f"""[[ "$2" != *version_info* ]] || echo {version}; [[ "$*" != *{lacks}* ]]""")


# --- prerequisites


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


def test_without_home_the_users_own_is_taken_and_a_read_only_checkout_is_no_obstacle(checkout: Path) -> None:
    executable(checkout / "setup" / "show.sh", "source setup/common.sh; echo $CACHE")
    (checkout / "logs").write_text("no folder can be made here")
    shown = run(checkout, "show.sh", HOME="")
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert (shown.returncode, shown.stdout.strip()) == (0, f"{home}/.cache/ringlake"), shown.stderr


# --- the sign of life


def test_heartbeat_passes_the_status_on_and_shows_the_end_of_the_log(tmp_path: Path) -> None:
    command = [
        str(CHECKOUT / "setup" / "heartbeat"),
        str(tmp_path / "log"),
        "bash",
        "-c",
        "echo first; echo the cause; exit 7",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 7
    assert "| the cause" in result.stderr
    assert str(tmp_path / "log") in result.stderr
    assert (tmp_path / "log").read_text() == "first\nthe cause\n"


def test_heartbeat_speaks_while_the_command_is_silent(tmp_path: Path) -> None:
    command = [
        str(CHECKOUT / "setup" / "heartbeat"),
        str(tmp_path / "log"),
        "bash",
        "-c",
        "echo [ 40%]; sleep 2",
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HEARTBEAT_SECONDS": "1"}
    )
    assert result.returncode == 0
    assert "s  [ 40%]" in result.stderr


def test_an_interrupted_heartbeat_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/started; wait"
    command = [str(CHECKOUT / "setup" / "heartbeat"), str(tmp_path / "log"), "bash", "-c", script]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as heartbeat:
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        heartbeat.terminate()
        assert heartbeat.wait(timeout=60) == 130
    expect_end(tmp_path / "started")


# --- Delta jars


def fake_spark(checkout: Path, contents: str) -> None:
    """Make a `.venv` whose Spark "resolves" jars that hold `contents`."""
    home = checkout.parent / "spark"
    executable(checkout / ".venv" / "bin" / "python", f"echo {home}")
    jars = "$(sed -n 's/.*spark.jars.ivy=//p' <<< \"$(printf '%s\\n' \"$@\")\")/jars"
    names = "io.delta_delta-spark_4.2_2.13-4.4.0.jar io.delta_delta-storage-4.4.0.jar"
    executable(
        home / "bin" / "spark-submit",
        f'echo called >> {home}/calls; folder="{jars}"; mkdir -p "$folder"; cd "$folder"\n'
        f"for name in {names}; do printf %s '{contents}' > $name; done",
    )


def expect_jars(checkout: Path, contents: str) -> None:
    """Let requirements/jars.txt ask for jars that hold `contents`."""
    listing = checkout / "requirements" / "jars.txt"
    digest = hashlib.sha256(contents.encode()).hexdigest()
    lines = [
        line if line.startswith("#") else f"{line.split()[0]} {digest}"
        for line in listing.read_text().splitlines()
    ]
    listing.write_text("\n".join(lines) + "\n")


def test_jars_with_another_checksum_are_refused_and_not_kept(checkout: Path) -> None:
    fake_spark(checkout, "not what the repository asks for")
    result = run(checkout, "jars.sh")
    assert result.returncode == 2
    assert "delta-spark_4.2_2.13-4.4.0.jar has SHA-256" in result.stderr
    assert not (cache(checkout) / "jars" / "delta-4.4.0-spark-4.2.0").exists()
    assert not (cache(checkout) / "ivy").exists()


def test_verified_jars_are_kept_and_not_fetched_again_until_one_is_damaged(checkout: Path) -> None:
    fake_spark(checkout, "jar")
    expect_jars(checkout, "jar")
    folder = cache(checkout) / "jars" / "delta-4.4.0-spark-4.2.0"
    assert [run(checkout, "jars.sh").returncode, run(checkout, "jars.sh").returncode] == [0, 0]
    assert [path.read_text() for path in folder.iterdir()] == ["jar", "jar"]
    calls = checkout.parent / "spark" / "calls"
    assert calls.read_text() == "called\n"
    (folder / "delta-storage-4.4.0.jar").write_text("damaged")
    result = run(checkout, "jars.sh")
    assert result.returncode == 0
    assert "delta-storage-4.4.0.jar has SHA-256" in result.stderr
    assert calls.read_text() == "called\ncalled\n"
    assert [path.read_text() for path in folder.iterdir()] == ["jar", "jar"]


# --- demo data


def fake_data(checkout: Path) -> Path:
    """Cache a wheel under the demo data's name, with a lock that asks for it; pip is out of reach."""
    version = (checkout / "requirements" / "data.txt").read_text().split("==")[1].split()[0]
    wheel = cache(checkout) / "data" / f"licensedcode_data-{version}-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("licensedcode/data/a.LICENSE", "---\nkey: a\n---\ntext\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (checkout / "requirements" / "data.txt").write_text(
        f"licensedcode-data=={version} --hash=sha256:{digest}\n"
    )
    python = CHECKOUT / ".venv" / "bin" / "python"
    executable(checkout / ".venv" / "bin" / "python", f'[[ "$2" != pip ]] || exit 9; exec {python} "$@"')
    return wheel


def test_demo_data_is_unpacked_once_and_again_after_an_interruption(checkout: Path) -> None:
    fake_data(checkout)
    text = checkout / "data" / "licensedcode" / "licensedcode" / "data" / "a.LICENSE"
    assert run(checkout, "data.sh").returncode == 0
    assert text.read_text().endswith("text\n")
    assert "already in" in run(checkout, "data.sh").stderr
    (checkout / "data" / ".licensedcode").unlink()  # as if the first call had been interrupted
    text.unlink()
    assert run(checkout, "data.sh").returncode == 0
    assert text.exists()


def test_damaged_demo_data_is_not_unpacked(checkout: Path) -> None:
    wheel = fake_data(checkout)
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    result = run(checkout, "data.sh")
    assert result.returncode == 9  # it tried to fetch the wheel again
    assert not (checkout / "data" / "licensedcode").exists()


# --- Horovod


def fake_horovod(checkout: Path) -> Path:
    """Make a `.venv` whose pip "builds" a wheel, and a patch; return the file that records pip's arguments."""
    calls = checkout.parent / "calls"
    python = CHECKOUT / ".venv" / "bin" / "python"
    source = checkout.parent / "source" / "horovod-0.28.1"
    for folder, line in (
        (source, "set(CMAKE_CXX_STANDARD 14)\n"),
        (source / "horovod" / "torch", "set(CMAKE_CXX_STANDARD 14)\n"),
        (source / "horovod" / "common" / "ops" / "cuda", "set(CMAKE_CUDA_STANDARD 11)\n"),
    ):
        folder.mkdir(parents=True)
        (folder / "CMakeLists.txt").write_text(line)
    (source / "horovod" / "common" / "gloo").mkdir()
    (source / "store").write_text("open to all\n")
    for patch in (checkout / "setup" / "horovod").glob("*.patch"):
        patch.unlink()
    change = "--- a/store\n+++ b/store\n@@ -1 +1 @@\n-open to all\n+open to some\n"
    (checkout / "setup" / "horovod" / "store.patch").write_text(f"Why.\n{change}")
    pip = f"""
        echo "$3" >> {calls}
        case "$3" in
            download) tar -czf "${{@: -1}}/horovod-0.28.1.tar.gz" -C {source.parent} horovod-0.28.1 ;;
            wheel)
                cd "${{@: -1}}"
                cat {{.,horovod/torch,horovod/common/ops/cuda}}/CMakeLists.txt store > {checkout.parent}/patched
                ls horovod/common/gloo >> {checkout.parent}/patched
                echo "$CXXFLAGS" > {checkout.parent}/flags
                echo "$HOROVOD_NCCL_LINK $HOROVOD_NCCL_INCLUDE" > {checkout.parent}/nccl
                [[ -z "$HOROVOD_NCCL_LIB" ]] || readlink "$HOROVOD_NCCL_LIB"/* >> {checkout.parent}/nccl
                while [[ "$1" != -w ]]; do shift; done
                mkdir "$2" && {python} -c "import sys, zipfile
zipfile.ZipFile(sys.argv[1] + '/horovod-0.28.1-cp311.whl', 'w').writestr('x', 'y')" "$2" ;;
        esac"""
    version = "sed -n 's/^torch==\\([^ ]*\\).*/\\1/p' requirements/run.txt"
    guard = f"""
        if [[ "$2" == pip ]]; then {pip}
        elif [[ "$2" == *importlib.metadata* ]]; then {version}
        elif [[ "$2" != *horovod* ]]; then exec {python} "$@"
        fi"""
    executable(checkout / ".venv" / "bin" / "python", guard)
    for tool in ("nproc", "gzip", "ln", "readlink", "patch"):
        (checkout.parent / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return calls


def test_horovod_is_patched_built_once_and_then_taken_from_the_cache(checkout: Path) -> None:
    calls = fake_horovod(checkout)
    first = run(checkout, "horovod.sh")
    assert first.returncode == 0, first.stderr
    patched = ["set(CMAKE_CXX_STANDARD 17)"] * 2 + ["set(CMAKE_CUDA_STANDARD 17)"]
    patched += ["open to some", "hmac_sha256.h"]
    assert (checkout.parent / "patched").read_text().splitlines() == patched
    assert (checkout.parent / "flags").read_text().split()[::2] == ["-include"] * 3
    assert not (checkout.parent / "nccl").read_text().strip()
    assert calls.read_text().split() == ["download", "wheel", "install"]
    assert "already in .venv" in run(checkout, "horovod.sh").stderr
    shutil.rmtree(checkout / ".venv" / ".ringlake")  # a new .venv, the same cache
    assert run(checkout, "horovod.sh").returncode == 0
    assert calls.read_text().split() == ["download", "wheel", "install", "install"]


@pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="torch came without CUDA's libraries")
def test_horovod_for_gpus_is_linked_with_the_nccl_of_torch(checkout: Path) -> None:
    calls = fake_horovod(checkout)
    result = run(checkout, "horovod.sh", HOROVOD_GPU_OPERATIONS="NCCL")
    assert result.returncode == 0, result.stderr
    link, include, library = (checkout.parent / "nccl").read_text().split()
    assert link == "shared"
    assert (Path(include) / "nccl.h").exists()
    assert Path(library).name == "libnccl.so.2"
    assert Path(library).exists()
    assert "already in .venv" in run(checkout, "horovod.sh").stderr  # as before each target of make
    assert run(checkout, "horovod.sh", HOROVOD_GPU_OPERATIONS="").returncode == 0
    assert not (checkout.parent / "nccl").read_text().strip()
    assert "already in .venv" in run(checkout, "horovod.sh").stderr
    own = {"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_NCCL_HOME": "/opt/nccl"}
    assert run(checkout, "horovod.sh", **own).returncode == 0
    # HOROVOD_NCCL_HOME is read by Horovod's build itself.
    assert not (checkout.parent / "nccl").read_text().strip()
    assert calls.read_text().split().count("wheel") == 3


def test_horovod_is_built_again_when_a_patch_changes_and_not_when_it_does_not_fit(checkout: Path) -> None:
    calls = fake_horovod(checkout)
    assert run(checkout, "horovod.sh").returncode == 0
    patch = checkout / "setup" / "horovod" / "store.patch"
    patch.write_text(patch.read_text().replace("some", "one"))
    assert run(checkout, "horovod.sh").returncode == 0
    assert "open to one" in (checkout.parent / "patched").read_text()
    assert calls.read_text().split().count("wheel") == 2
    patch.write_text(patch.read_text().replace("all", "nobody"))
    result = run(checkout, "horovod.sh")
    assert result.returncode == 2
    assert "store.patch does not fit" in result.stderr
    assert calls.read_text().split().count("wheel") == 2


def test_the_message_authentication_code_in_c_is_that_of_the_standard(tmp_path: Path) -> None:
    program = """
#include <iostream>
#include "hmac_sha256.h"
int main() {
  for (int size = 0; size < 200; ++size) {
    std::string text;
    for (int i = 0; i < size; ++i) {
      text += static_cast<char>(i * 7);
    }
    std::cout << horovod::common::Hex(horovod::common::HmacSha256(text, text + "x")) << std::endl;
  }
}"""
    (tmp_path / "main.cc").write_text(program)
    build = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "main.cc", "-o", "main"]
    subprocess.run([*build, f"-I{CHECKOUT / 'setup' / 'horovod'}"], cwd=tmp_path, check=True)
    codes = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    texts = [bytes(i * 7 % 256 for i in range(size)) for size in range(200)]
    assert codes == [hmac.new(text, text + b"x", hashlib.sha256).hexdigest() for text in texts]


def test_horovod_is_built_again_for_another_torch_or_a_damaged_wheel(checkout: Path) -> None:
    calls = fake_horovod(checkout)
    assert run(checkout, "horovod.sh").returncode == 0
    lock = checkout / "requirements" / "run.txt"
    lock.write_text(lock.read_text().replace("torch==2.", "torch==3."))
    assert run(checkout, "horovod.sh").returncode == 0
    assert calls.read_text().split().count("wheel") == 2
    for wheel in (cache(checkout) / "wheels").glob("*torch-3*/*.whl"):
        os.truncate(wheel, 10)
    assert run(checkout, "horovod.sh").returncode == 0
    assert calls.read_text().split().count("wheel") == 3
