"""Who runs this, where and by which command, as it stands in manifests, in the audit trail and in a lock."""

import getpass
import shlex
import socket
import sys
from datetime import UTC, datetime


def invocation() -> dict[str, str]:
    """The `host`, the `user` and the `command` line of this process."""
    return {"host": socket.gethostname(), "user": getpass.getuser(), "command": shlex.join(sys.argv)}


def now() -> str:
    """The moment in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
