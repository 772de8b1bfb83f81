"""Console scripts with subcommands, each an alias of a module that `python -m` also starts."""

import importlib
from collections.abc import Mapping, Sequence

from common.errors import UsageError

Commands = Mapping[str, tuple[str, str]]
"""By subcommand: the module whose `main(argv)` does the work, and a line for the help."""


def dispatch(program: str, commands: Commands, argv: Sequence[str]) -> int:
    """Import the module that `argv[0]` names, call its `main` with the rest, return its exit status.

    Modules are imported only when called, so that `--help` needs neither Spark nor torch. Raises UsageError for an
    unknown subcommand.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(usage(program, commands))
        return 0
    if not argv or argv[0] not in commands:
        wrong = f"{argv[0]!r} is not a command" if argv else "a command is missing"
        raise UsageError(
            f"{program}: {wrong}: use one of {', '.join(commands)} (`{program} --help` explains them)"
        )
    module = importlib.import_module(commands[argv[0]][0])
    status: int = module.main(list(argv[1:]))
    return status


def usage(program: str, commands: Commands) -> str:
    """Return the help text, one line a subcommand."""
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in commands.items()]
    return "\n".join([f"usage: {program} COMMAND [--help] …", "", *lines])
