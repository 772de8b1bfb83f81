"""Invocation (user, host, command), as manifests, the audit trail and the lock record it."""

import getpass
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from common.command import HIDDEN, without_credentials

PERSONAL = ("--record", "--pseudonym", "--quarantined")
"""Flags whose values may identify a person, and are not recorded."""


def invocation() -> dict[str, str]:
    """Return the `host`, the `user` and the `command` line of this process."""
    return {"host": socket.gethostname(), "user": user(), "command": command_line(sys.argv)}


def user() -> str:
    """Return the name of the user, or the number of one without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return f"uid {os.getuid()}"


def command_line(arguments: Sequence[str]) -> str:
    """Return the arguments as for a shell, with HIDDEN in place of credentials and of values about a person."""
    shown: list[str] = []
    hidden = False
    for argument in without_credentials(arguments):
        if argument.startswith("-") and not argument[1:2].isdigit():  # a number may be an id
            flag, equals, _ = argument.partition("=")
            # argparse accepts the beginning of a flag for the flag.
            hidden = len(flag) > 2 and any(name.startswith(flag) for name in PERSONAL)
            shown.append(f"{flag}={HIDDEN}" if hidden and equals else argument)
        elif not hidden:
            shown.append(argument)
        elif shown[-1] != HIDDEN:
            shown.append(HIDDEN)
    return shlex.join(shown)


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
