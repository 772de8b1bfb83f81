"""Who runs this, where and by which command, as it stands in manifests, in the audit trail and in a lock."""

import getpass
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from common.command import HIDDEN, without_credentials

PERSONAL = ("--record", "--pseudonym", "--quarantined")
"""Flags whose values tell of a person, and stay out of what is written down."""


def invocation() -> dict[str, str]:
    """The `host`, the `user` and the `command` line of this process."""
    return {"host": socket.gethostname(), "user": user(), "command": command_line(sys.argv)}


def user() -> str:
    """The name of the user, or the number of one that has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return f"uid {os.getuid()}"


def command_line(arguments: Sequence[str]) -> str:
    """The arguments as for a shell, with HIDDEN in the place of credentials, and of those that tell of a person."""
    shown: list[str] = []
    hidden = False
    for argument in without_credentials(arguments):
        if argument.startswith("-") and not argument[1:2].isdigit():  # a number may be an id
            flag, equals, _ = argument.partition("=")
            # argparse takes the beginning of a flag for the flag.
            hidden = len(flag) > 2 and any(name.startswith(flag) for name in PERSONAL)
            shown.append(f"{flag}={HIDDEN}" if hidden and equals else argument)
        elif not hidden:
            shown.append(argument)
        elif shown[-1] != HIDDEN:
            shown.append(HIDDEN)
    return shlex.join(shown)


def now() -> str:
    """The moment in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
