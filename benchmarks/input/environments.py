"""The peers' environments, one each, below `benchmarks/input/.environments/` (which git ignores).

They hold what `requirements/<peer>.txt` locks, and links to the torch of this product, so that they cost no second,
third and sixth copy of it and all loaders fill tensors of the same library.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from schemas.progress import say

HERE = Path(__file__).parent
FOLDER = HERE / ".environments"
LINKED = re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$")


def requirements(peer: str) -> Path:
    return HERE / "requirements" / f"{peer}.txt"


def python_of(peer: str) -> Path:
    """The peer's interpreter; builds its environment first where that is not there or out of date.

    Raises subprocess.CalledProcessError where it cannot be built.
    """
    environment = FOLDER / peer
    stamp = environment / "built"
    key = hashlib.sha256(
        requirements(peer).read_bytes()
        + f"{sys.version} {sys.prefix} {importlib.metadata.version('torch')}".encode()
    ).hexdigest()
    python = environment / "bin" / "python"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        return python
    say(f"environment of {peer} …")
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    _install(python, requirements(peer))
    _link_torch(environment)
    stamp.write_text(key, encoding="utf-8")
    return python


def version_of(peer: str, package: str) -> str:
    """The version of a package that the peer's lock names."""
    pinned = re.search(rf"^{package}==(\S+)", requirements(peer).read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None, f"{requirements(peer)} does not name {package}"
    return pinned[1]


def _install(python: Path, lock: Path) -> None:
    wanted = ["--require-hashes", "--no-deps", "-r", str(lock)]
    settings = {"UV_HTTP_TIMEOUT": "300", "UV_SYSTEM_CERTS": "true", **os.environ}
    uv = Path(sys.executable).parent / "uv"
    done = uv.exists() and (
        subprocess.run(
            [str(uv), "pip", "install", "--quiet", "--python", str(python), *wanted],
            env=settings,
            check=False,
        ).returncode
        == 0
    )
    if not done:  # pip understands settings, a package index in pip.conf say, that uv does not read
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, *wanted], check=True, stdout=sys.stderr)


def _link_torch(environment: Path) -> None:
    ours = Path(sysconfig.get_path("purelib"))
    (theirs,) = environment.glob("lib/python*/site-packages")
    for distribution in importlib.metadata.distributions(path=[str(ours)]):
        if not LINKED.match(distribution.metadata["Name"]):
            continue
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (theirs / name).exists():
                (theirs / name).symlink_to(ours / name)
