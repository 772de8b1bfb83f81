"""The errors that a user can meet, each with the exit status that it ends a command with."""


class RinglakeError(Exception):
    """Base of all errors that are shown to the user as one sentence; `exit_status` is what the command ends with."""

    exit_status = 1


class DataError(RinglakeError):
    """Data are damaged, missing or contradict each other; exit status 1."""


class CheckError(RinglakeError):
    """A check that the product makes of itself failed (counts do not add up, rows were lost); exit status 1."""


class UsageError(RinglakeError):
    """A command was used wrongly, or something it needs is not set up; exit status 2."""

    exit_status = 2


class ConfigurationError(UsageError):
    """A configuration file names an unknown key or a wrong value; exit status 2."""


class QualityGateError(RinglakeError):
    """A data-quality gate failed and nothing was published; exit status 3."""

    exit_status = 3
