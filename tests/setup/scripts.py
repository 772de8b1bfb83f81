"""Running the set-up scripts in a small copy of the checkout."""

import subprocess
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = """
    awk bash cat cp cut dirname env grep head ls mkdir mktemp mv paste
    rm sed setsid sha256sum sleep tail tar tr uname
"""


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def run(checkout: Path, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a user with an empty home would; its messages are in `stderr`."""
    environment = {
        "HOME": str(checkout.parent / "home"),
        "PATH": str(checkout.parent / "bin"),
        "RINGLAKE_JVM_FOLDER": str(checkout.parent / "jvm"),
        **variables,
    }
    command = [str(checkout / "setup" / script), *arguments]
    return subprocess.run(
        command, env=environment, cwd=checkout, capture_output=True, text=True, check=False, timeout=120
    )


def expect_end(pid: Path) -> None:
    """Wait for the end of the process whose id is in a file."""
    process = Path("/proc") / pid.read_text().strip() / "stat"
    for _ in range(600):
        if not process.exists() or process.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("what the command had started is still running")


def cache(checkout: Path) -> Path:
    return checkout.parent / "home" / ".cache" / "ringlake"
