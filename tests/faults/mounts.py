"""Small file systems of their own, for disks that are full."""

import subprocess
from pathlib import Path

import pytest


class Mount:
    """A tmpfs at a folder, of a size that can be changed."""

    def __init__(self, folder: Path, size: str) -> None:
        """Skips the test where nothing can be mounted."""
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
        subprocess.run(["umount", "--recursive", str(self.folder)], check=True)
