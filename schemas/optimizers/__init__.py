"""`[optimizer]`: one module a kind, with the keys of that kind."""

from common.sections import Section


class OptimizerSettings(Section):
    """Keys that every `[optimizer]` has."""

    kind: str
