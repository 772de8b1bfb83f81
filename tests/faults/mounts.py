"""Small separate file systems, for full disks."""

import os
import subprocess
import time
from pathlib import Path

import pytest


class Mount:
    """A tmpfs mounted on a folder, with a size that can be changed."""

    def __init__(self, folder: Path, size: str) -> None:
        """Mount it; skip the test if nothing can be mounted."""
        folder.mkdir()
        self.folder = folder
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")

    def resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def unmount(self) -> None:
        """Unmount, after waiting for processes that are just ending and still have it as their working folder."""
        command = ["umount", "--recursive", str(self.folder)]
        until = time.monotonic() + 60
        while (
            subprocess.run(command, capture_output=True, check=False).returncode and time.monotonic() < until
        ):
            time.sleep(0.5)
        if os.path.ismount(self.folder):
            subprocess.run(command, check=True)
