"""setup/all.sh: Horovod compiles beside the rest; a part that fails, or an interrupt, ends the whole."""

import subprocess
import time
from pathlib import Path

from tests.setup.scripts import executable, expect_end, run


def fake_parts(checkout: Path, **scripts: str) -> None:
    """Parts of the set-up that note their names and arguments in `called`, or do what is given."""
    for part in ("prerequisites", "venv", "horovod", "jars", "data", "byte_code"):
        executable(checkout / "setup" / f"{part}.sh", scripts.get(part, f'echo {part} "$@" >> called'))


def test_all_parts_run_and_a_failed_one_fails_the_whole(checkout: Path) -> None:
    fake_parts(checkout)
    assert run(checkout, "all.sh", "dev", "data").returncode == 0
    called = (checkout / "called").read_text().split("\n")
    assert called[:2] == ["prerequisites", "venv dev data"]
    assert sorted(called[2:]) == ["", "byte_code", "data", "horovod", "jars"]
    for part in ("horovod", "jars"):
        fake_parts(checkout, **{part: "exit 7"})
        assert run(checkout, "all.sh").returncode == 7
    fake_parts(checkout, venv="exit 9", jars="true > jars")
    assert run(checkout, "all.sh").returncode == 9
    assert not (checkout / "jars").exists()


def test_an_interrupt_ends_the_build_beside_the_rest(checkout: Path) -> None:
    jars = "while [[ ! -f started ]]; do sleep 0.1; done; true > jars; sleep 2"
    fake_parts(checkout, horovod="sleep 300 & echo $! > pid; mv pid started; wait", jars=jars)
    environment = {"HOME": str(checkout.parent), "PATH": str(checkout.parent / "bin")}
    command = [str(checkout / "setup" / "all.sh")]
    with subprocess.Popen(command, cwd=checkout, env=environment, stderr=subprocess.DEVNULL) as parts:
        while not (checkout / "jars").exists():
            time.sleep(0.05)
        parts.terminate()
        assert parts.wait(timeout=60) == 130
    expect_end(checkout / "started")
