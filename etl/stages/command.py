"""Flags of the stages and of the pipeline, and the configuration that they name.

Nothing here takes long to import: the commands import Spark and Delta once the configuration has been judged.
"""

import argparse
from collections.abc import Sequence

from common.command import configuration_parser
from schemas.config import Configuration, load


def judged(
    name: str, description: str | None, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, Configuration]:
    """Return the flags of a stage, or of the pipeline, and the configuration. Raises ConfigurationError."""
    parser = configuration_parser(f"python -m etl.{name}", description)
    parser.add_argument(
        "--again",
        action="store_true",
        help="also run complete stages, with the same input and configuration",
    )
    arguments = parser.parse_args(argv)
    return arguments, load(arguments.config, arguments.overrides)
