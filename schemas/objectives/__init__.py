"""`[objective]`: one module a kind, with the keys of that kind."""

from common.sections import Section


class ObjectiveSettings(Section):
    """What every `[objective]` has."""

    kind: str
