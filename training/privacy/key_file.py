"""The key of a run's noise, in a file that only its owner may read.

Whoever has the key and the configuration can compute the noise and subtract it. So it is in no checkpoint, no summary
and no report, and must not be published with the run; a resumed training needs it.
"""

import hashlib
import os
import stat
from pathlib import Path

from common.errors import DataError, UsageError
from training.privacy.noise import KEY_BYTES

FOLDER, NAME = "private", "noise.key"


def path_of(run: Path) -> Path:
    return run / FOLDER / NAME


def create(run: Path) -> bytes:
    """Draw a key from the operating system's entropy and write it, in place of an earlier one; return it.

    Raises DataError where it cannot be written.
    """
    path, key = path_of(run), os.urandom(KEY_BYTES)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"the key of the noise, {path}, cannot be written: {error.strerror}") from error
    return key


def read(run: Path, fingerprint: str) -> bytes:
    """Return the key that a checkpoint names by its fingerprint.

    Raises UsageError where the file is missing, others than its owner may read it, or it holds another key.
    """
    path = path_of(run)
    try:
        with path.open("rb") as file:
            mode, key = stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read()
    except OSError as error:
        raise UsageError(
            f"the key of the noise, {path}, cannot be read ({error.strerror}), and without it the training would not "
            "go on with the noise that was accounted for: put it back from where it was kept, or begin anew with "
            "--again"
        ) from error
    if mode & 0o077:
        raise UsageError(
            f"{path}, the key of the noise, may be read by others (mode {mode:o}): whoever did can take the noise "
            f"away, and the run protects nothing from them; if nobody has, chmod 600 {path}"
        )
    if fingerprint_of(key) != fingerprint:
        raise UsageError(
            f"{path} is not the key that this run's checkpoints were made with: put that one back, or begin anew with "
            "--again"
        )
    return key


def fingerprint_of(key: bytes) -> str:
    """Return a hash by which a checkpoint recognises its key; it tells nothing of the 256 random bits."""
    return hashlib.sha256(b"ringlake key 1" + key).hexdigest()
