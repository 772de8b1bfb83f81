"""Lock of a folder that one process writes at a time: a second one ends with a message that names the first.

On local disks the lock is that of the operating system (`flock`), which ends with the process that holds it, however
that ends; so it is on shared file systems that know such locks. Elsewhere it is a file that only one process can
create; a process that was killed on another machine leaves it behind, and the message says which file to delete.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from common import storage
from common.errors import DataError, UsageError
from common.invocation import invocation, now
from common.progress import log
from common.storage import Storage

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of a file system that knows no locks."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
WAIT = "wait for its end, and run again"
TRIES, PAUSE = 4, 0.05


@contextmanager
def held(location: str, refusal: str, options: Storage | None = None, **facts: str) -> Iterator[None]:
    """Hold the lock at `location`; a process that finds it held is told `refusal`, who holds it, and what to do.

    `facts` are kept beside the holder's host, user, process, start and command. Raises UsageError where another process
    holds the lock or the file cannot be created, DataError where the disk is full.
    """
    if not storage.is_local(location):
        lock = _created(location, refusal, options, facts)
    else:
        lock = _flocked(Path(storage.absolute(location)), refusal, facts)
    with lock:
        yield


def holder(location: Path) -> dict[str, object] | None:
    """Return the facts about the process that holds a local lock; None where none does. It needs no right to write."""
    with suppress(OSError), location.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return parsed(file.read())
        except OSError:
            facts = parsed(_exclusive(location).read_bytes())
            return None if _is_dead(facts) else facts
    return None


def _exclusive(path: Path) -> Path:
    """Return the file that takes the place of a lock where the file system knows none."""
    return path.with_name(f"{path.name}.exclusive")


def described(facts: dict[str, object]) -> str:
    """Say who holds a lock: process, user, host, since when, command."""
    if not facts:
        return "it does not say which"
    return (
        f"process {facts.get('pid')} of {facts.get('user')} on {facts.get('host')}, since {facts.get('since')}: "
        f"{facts.get('command')}"
    )


def parsed(content: bytes) -> dict[str, object]:
    """Return the facts that a lock holds; none where they are being written, or are not ours."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _facts(more: dict[str, str]) -> bytes:
    return json.dumps({**invocation(), "pid": os.getpid(), "since": now(), **more}).encode()


def _refused(refusal: str, content: bytes, remedy: str) -> UsageError:
    return UsageError(f"{refusal} ({described(parsed(content))}); {remedy}")


def _is_dead(facts: dict[str, object]) -> bool:
    """Return True for a process of this host that is gone; another host's may live."""
    pid = facts.get("pid")
    if facts.get("host") != invocation()["host"] or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def _flocked(path: Path, refusal: str, facts: dict[str, str]) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path, refusal)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            kind = DataError if error.errno in NO_ROOM else UsageError
            raise kind(
                f"{path} cannot be created ({error.strerror}): without this lock two processes could write there at "
                "once; mend the permissions of its folder, or make room"
            ) from error
        with _created(str(_exclusive(path)), refusal, None, facts):
            yield
        return
    with file:
        before = parsed(file.read())
        if before and before.get("host") != invocation()["host"]:
            log(f"note: {path} was left behind by {described(before)}")
        with suppress(OSError):  # a full disk: then it does not say who holds it
            file.seek(0)
            file.truncate(0)
            file.write(_facts(facts))
        try:
            yield
        finally:
            with suppress(OSError):
                if _is_at(file.fileno(), path):
                    path.unlink()


def _is_at(descriptor: int, path: Path) -> bool:
    """Return True if an open file still lies at `path`, so that nobody can lock another one there."""
    return os.path.samestat(os.fstat(descriptor), os.stat(path))


def _open_locked(path: Path, refusal: str) -> IO[bytes]:
    """Open and lock the file at `path`. Raises UsageError if another process holds it, OSError if it cannot be."""
    tries = 0
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its holder may have deleted it meanwhile; then others can lock a new file of that name.
            with suppress(FileNotFoundError):
                if _is_at(descriptor, path):
                    return os.fdopen(os.dup(descriptor), "r+b", buffering=0)
        except BlockingIOError as error:
            tries += 1
            if tries == TRIES:
                remedy = f"{WAIT} (where that process has died, the lock is free already)"
                raise _refused(refusal, os.pread(descriptor, 1 << 16, 0), remedy) from error
        finally:
            os.close(descriptor)
        # `holder` takes it for a moment, and a process that is being killed gives it back in a moment.
        time.sleep(PAUSE)


@contextmanager
def _created(location: str, refusal: str, options: Storage | None, facts: dict[str, str]) -> Iterator[None]:
    file_system, path = storage.filesystem(location, options)
    file_system.makedirs(os.path.dirname(path), exist_ok=True)
    if storage.is_local(location):
        # What a killed process of this host left.
        with suppress(OSError):
            if _is_dead(parsed(Path(path).read_bytes())):
                Path(path).unlink()
    try:
        with file_system.open(path, "xb") as file:
            file.write(_facts(facts))
    except FileExistsError as error:
        content = storage.read_bytes(location, options)
        remedy = f"wait for its end, or delete {location} if it is no longer there"
        raise _refused(refusal, content, remedy) from error
    except (NotImplementedError, ValueError) as error:
        log(f"note: {location} cannot be locked ({error}): make sure that no other run writes here")
        yield
        return
    try:
        yield
    finally:
        try:
            file_system.rm(path)
        except FileNotFoundError:
            log(
                f"note: {location}, the lock of this process, was deleted meanwhile: another may have written here"
            )
