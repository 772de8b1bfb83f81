"""Virtual environments of the peers, one each, below a bench's `.environments/` (ignored by git), with the packages
that its `requirements/<peer>.txt` locks by hash.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from common.progress import log


@dataclass(frozen=True)
class Environments:
    """Environments of the bench in the folder `bench`."""

    bench: Path
    linked: re.Pattern[str] | None = None
    """Names of this product's packages that an environment links instead of installing them."""
    keyed_by: tuple[str, ...] = ()
    """Packages of this product whose version makes the environments out of date."""

    def requirements(self, peer: str) -> Path:
        return self.bench / "requirements" / f"{peer}.txt"

    def python_of(self, peer: str) -> Path:
        """Return the peer's interpreter; build its environment first where it is missing or out of date.

        Raises subprocess.CalledProcessError where it cannot be built.
        """
        environment = self.bench / ".environments" / peer
        stamp = environment / "built"
        versions = " ".join([sys.version, sys.prefix, *map(importlib.metadata.version, self.keyed_by)])
        key = hashlib.sha256(self.requirements(peer).read_bytes() + versions.encode()).hexdigest()
        python = environment / "bin" / "python"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
            return python
        log(f"environment of {peer} …")
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        _install(python, self.requirements(peer))
        if self.linked is not None:
            _link(environment, self.linked)
        stamp.write_text(key, encoding="utf-8")
        return python

    def version_of(self, peer: str, package: str) -> str:
        """Return the version of a package that the peer's lock names."""
        lock = self.requirements(peer)
        pinned = re.search(rf"^{package}==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
        assert pinned is not None, f"{lock} does not name {package}"
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


def _link(environment: Path, linked: re.Pattern[str]) -> None:
    ours = Path(sysconfig.get_path("purelib"))
    (theirs,) = environment.glob("lib/python*/site-packages")
    for distribution in importlib.metadata.distributions(path=[str(ours)]):
        if not linked.match(distribution.metadata["Name"]):
            continue
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (theirs / name).exists():
                (theirs / name).symlink_to(ours / name)
