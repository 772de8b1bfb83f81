"""Errors that a user can meet, each with the exit status of the command that raises it."""


class RinglakeError(Exception):
    """Base of all errors that are shown to the user as one sentence; `exit_status` becomes the command's."""

    exit_status = 1


class DataError(RinglakeError):
    """Data are damaged, missing or inconsistent; exit status 1."""


class CheckError(RinglakeError):
    """An internal check failed: counts do not add up, or rows were lost; exit status 1."""


class UsageError(RinglakeError):
    """A command was used wrongly, or lacks something that it needs; exit status 2."""

    exit_status = 2


class ConfigurationError(UsageError):
    """A configuration file has an unknown key or an invalid value; exit status 2."""


class QualityGateError(RinglakeError):
    """A data-quality gate failed and nothing was published; exit status 3."""

    exit_status = 3
