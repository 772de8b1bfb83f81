"""`[optimizer]`: one module a kind, with the keys of that kind."""

from common.sections import Section


class OptimizerSettings(Section):
    """What every `[optimizer]` has."""

    kind: str
