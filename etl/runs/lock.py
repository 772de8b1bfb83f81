"""Lock of a data set, written by one run at a time: a second run ends with a message that names the first.

On local disks the lock is that of the operating system (`flock`), which ends with the process that holds it, however
that ends. Elsewhere it is a file that only one process can create; a run that was killed on another machine leaves it
behind, and the message says which file to delete.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from common import storage
from common.errors import UsageError
from common.progress import log
from etl.runs.invocation import invocation, now
from schemas.config import Configuration
from schemas.tables import Layout

LOCK = "lock"


@contextmanager
def locked(config: Configuration) -> Iterator[None]:
    """Hold the lock of a data set. Raises UsageError where another run has it."""
    location = Layout.of(config).at(LOCK)
    held = _local(location, config) if storage.is_local(location) else _remote(location, config)
    with held:
        yield


def _facts() -> bytes:
    """Describe the holder of the lock."""
    return json.dumps({**invocation(), "pid": os.getpid(), "since": now()}).encode()


def _holder(content: bytes) -> dict[str, object]:
    try:
        found = json.loads(content)
    except ValueError:  # written this moment, or not by us
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(config: Configuration, content: bytes, remedy: str) -> UsageError:
    holder = _holder(content)
    who = (
        f"process {holder.get('pid')} of {holder.get('user')} on {holder.get('host')}, since {holder.get('since')}: "
        f"{holder.get('command')}"
        if holder
        else "it does not say which"
    )
    return UsageError(f"another run is writing the data set {config.dataset.name} ({who}); {remedy}")


@contextmanager
def _local(location: str, config: Configuration) -> Iterator[None]:
    os.makedirs(os.path.dirname(location), exist_ok=True)
    with open(os.open(location, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _refusal(config, file.read(), "wait for its end, and run again") from error
        except OSError as error:
            log(
                f"note: {location} cannot be locked ({error.strerror}): make sure that no other run writes here"
            )
        file.truncate(0)
        file.write(_facts())
        yield
        file.truncate(0)


@contextmanager
def _remote(location: str, config: Configuration) -> Iterator[None]:
    file_system, path = storage.filesystem(location, config.storage)
    file_system.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with file_system.open(path, "xb") as file:
            file.write(_facts())
    except FileExistsError as error:
        content = storage.read_bytes(location, config.storage)
        remedy = f"wait for its end, or delete {location} if it is no longer there"
        raise _refusal(config, content, remedy) from error
    except (NotImplementedError, ValueError) as error:
        log(f"note: {location} cannot be locked ({error}): make sure that no other run writes here")
        yield
        return
    try:
        yield
    finally:
        file_system.rm(path)
