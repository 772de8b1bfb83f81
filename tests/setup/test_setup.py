"""The set-up scripts, each in a small copy of the checkout, without network: what they refuse, skip and report."""

import hashlib
import hmac
import importlib.util
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.setup.scripts import CHECKOUT, cache, executable, expect_end, run

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
