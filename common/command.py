"""Entry point of every command: map a `RinglakeError` to one sentence and an exit status, log any other error to a
file.

Used by all modules that `python -m` or `spark-submit` starts:

    def main(argv: Sequence[str] | None = None) -> int:
        arguments = parser().parse_args(argv)
        ...
        return 0

    if __name__ == "__main__":
        sys.exit(run(main))
"""

import argparse
import errno
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import RinglakeError

LOG_FOLDER = Path("logs")
HIDDEN = "..."
"""Placeholder for credentials in a logged command line."""
_CREDENTIAL = re.compile(r"(--[\w-]+=)?(\s*[\"']?storage\b[^=]*=).*", re.DOTALL)
_PASSWORD = re.compile(r"(://[^/@\s:\"']*:)[^/@\s\"']+@")


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Call `main(argv)` and return the exit status: its own, the error's, 130 after an interrupt, 1 for a defect."""
    try:
        return main(argv)
    except RinglakeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    # The last line of defence: the traceback belongs in the log, not on the terminal.
    except Exception as error:  # noqa: BLE001
        log = write_traceback()
        remedy = _remedy(error)
        # A message from the system is about the machine; any other may quote a record.
        of_system = isinstance(error, OSError | ImportError | MemoryError)
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
        if remedy is not None:
            said = f"{first_line or type(error).__name__}: {remedy} (the traceback is in {log})"
        else:
            said = (
                f"{type(error).__name__}{f': {first_line}' if of_system else ''} (unexpected; the traceback is in "
                f"{log}: please report it with that file, once you have seen that it quotes no personal data)"
            )
        print(f"error: {said}", file=sys.stderr)
        return 1


_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some room on that disk and run again"),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM),
        "look at the permissions of that file and how its disk is mounted, or choose another folder",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys(
        (errno.EAGAIN, errno.ENOMEM), "allow more memory and processes (ulimit -u), or close others"
    ),
    errno.ENAMETOOLONG: "choose a shorter path",
}
"""What to do about an error of the system that the environment causes, and no code."""


def _remedy(error: Exception) -> str | None:
    """Return what a user can do about an error that the environment causes; None for any other."""
    if isinstance(error, OSError):
        return _REMEDIES.get(error.errno or 0)
    if isinstance(error, MemoryError):
        return "the memory is used up: allow more, or take smaller batches and fewer tasks at a time"
    if isinstance(error, ImportError):
        return "a package is missing or damaged: run `make setup`, and use the Python of .venv"
    return None


def log_folder() -> Path:
    """Return the folder for logs: `logs/` of the working folder, or a new temporary one where nothing can be written.

    The latter is this user's alone, since a log may quote a record.
    """
    try:
        LOG_FOLDER.mkdir(parents=True, exist_ok=True)
        if os.access(LOG_FOLDER, os.W_OK):
            return LOG_FOLDER
    except OSError:  # a read-only checkout, say, or a full disk
        pass
    return Path(tempfile.mkdtemp(prefix="ringlake-logs-"))


def write_traceback() -> Path | str:
    """Write the current exception's traceback to a new log and return its path, or that there is none, and why."""
    name = f"error-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6:06d}.log"
    try:
        log = log_folder() / name
        log.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return f"no file, since none can be written: {error.strerror or error}"
    return log


def configuration_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the flags that all stages share: `--config FILE` and the repeatable `--set KEY=VALUE`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the data set's TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key of the configuration, e.g. --set train.epochs=1 (repeatable)",
    )
    return parser


def without_credentials(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with HIDDEN for each value that `--set` gives to a key of `[storage]`, and for passwords."""
    return [
        f"{found[1] or ''}{found[2]}{HIDDEN}"
        if (found := _CREDENTIAL.fullmatch(argument))
        else without_passwords(argument)
        for argument in arguments
    ]


def without_passwords(text: str) -> str:
    """Return a text with HIDDEN in place of the password of each URI of the form `scheme://user:password@host`."""
    return _PASSWORD.sub(rf"\1{HIDDEN}@", text)


def add_manifest_flags(parser: argparse.ArgumentParser, default: str | None, explained: str) -> None:
    """Add `--manifest PATH` and its alternative `--version N`; both set `manifest` for schemas.manifest.resolve."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--manifest", default=default, metavar="PATH", help=explained)
    add_version_flag(which, "manifest")


def add_root_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--root FOLDER`: where a data set that was moved lies now."""
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="where the data set lies now: what dataset.root would be, the folder that holds the data set's own",
    )


def overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the values of `--set` for a configuration, with that of `--root` as `dataset.root`."""
    root = (
        [] if arguments.root is None else [f"dataset.root={json.dumps(arguments.root, ensure_ascii=False)}"]
    )
    return [*arguments.overrides, *root]


def add_version_flag(parser: "argparse._ActionsContainer", destination: str = "version") -> None:
    """Add `--version N`, kept as text for schemas.manifest.resolve."""
    parser.add_argument(
        "--version",
        dest=destination,
        default=argparse.SUPPRESS if destination == "manifest" else None,
        type=_version,
        metavar="N",
        help="a published version by its number (`ringlake-etl history` lists them)",
    )


def _version(text: str) -> str:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a version")
    return text
