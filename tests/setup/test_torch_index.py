"""TORCH_INDEX_URL: torch from another index than the rest, in a real environment, with tiny wheels on loopback."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BACKEND = """
import shutil
def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("ringlake-0-py3-none-any.whl", folder).rpartition("/")[2]
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str], requires: str = "") -> str:
    """Write a wheel; return its line in a lock."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    contents = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{info}/RECORD,,"]
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in contents.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
            record.append(f"{file},sha256={digest},{len(text.encode())}")
            entry = zipfile.ZipInfo(file)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Serve the folder `indexes`; yield its URL."""
    (tmp_path / "indexes").mkdir(exist_ok=True)
    handler = partial(Quiet, directory=str(tmp_path / "indexes"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """Write the set-up scripts, and locks of a tiny torch that asks for CUDA and `helper`.

    The index `main` has these and uv, the index `other` a torch that asks for `helper` alone.
    """
    checkout = tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "setup", checkout / "setup")
    (checkout / "requirements").mkdir()
    main = tmp_path / "indexes" / "main"
    uv = f'#!/bin/sh\nexec "{CHECKOUT}/.venv/bin/uv" "$@"\n'
    locks = {
        "bootstrap": wheel(main / "uv", "uv", "0", {"uv-0.data/scripts/uv": uv}),
        "run": wheel(main / "helper", "helper", "1", {"helper.py": ""})
        + wheel(main / "nvidia-x", "nvidia-x", "3", {"nvidia_x.py": ""})
        + wheel(main / "torch", "torch", "2.13.0", {"torch.py": "build = 'cuda'"}, "Requires-Dist: helper\n"),
        "gpu": wheel(main / "triton", "triton", "4", {"triton.py": ""}),
    }
    for name, lock in locks.items():
        (checkout / "requirements" / f"{name}.txt").write_text(lock)
    other = tmp_path / "indexes" / "other" / "torch"
    wheel(other, "torch", "2.13.0+cpu", {"torch.py": "build = 'cpu'"}, "Requires-Dist: helper\n")
    wheel(other, "torch", "2.14.0+cpu", {"torch.py": "build = 'newer'"})
    wheel(checkout, "ringlake", "0", {"ringlake_here.pth": ""})
    (checkout / "backend.py").write_text(BACKEND)
    (checkout / "setup.cfg").write_text("")
    (checkout / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "ringlake"\nversion = "0"\n'
    )
    return checkout


def installed(checkout: Path, url: str, **variables: str) -> tuple[str, set[str]]:
    """Run the set-up; return the torch that `.venv` then has, and the modules beside it."""
    environment = {
        "HOME": str(checkout.parent / "home"),
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "GPU": "0",  # on a machine with one as well
        "PIP_INDEX_URL": f"{url}/main",
        "UV_DEFAULT_INDEX": f"{url}/main",
        **variables,
    }
    command = [str(checkout / "setup" / "venv.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    python = str(checkout / ".venv" / "bin" / "python")
    build = subprocess.check_output([python, "-c", "import torch; print(torch.build)"], text=True)
    packages = next((checkout / ".venv" / "lib").glob("python3.*")) / "site-packages"
    return build.strip(), {path.stem for path in packages.glob("*.py")} - {"torch"}


@pytest.mark.thorough
def test_torch_comes_from_the_index_that_is_named_until_another_is(locked: Path, url: str) -> None:
    assert installed(locked, url, TORCH_INDEX_URL=f"{url}/other") == ("cpu", {"helper"})
    assert installed(locked, url) == ("cpu", {"helper"})  # as by every target of make
    assert installed(locked, url, TORCH_INDEX_URL="") == ("cuda", {"helper", "nvidia_x"})
    assert installed(locked, url, GPU="1") == ("cuda", {"helper", "nvidia_x", "triton"})
