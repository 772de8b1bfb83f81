"""`[model]`: one module a kind, with the keys of that kind."""

from common.sections import Section


class ModelSettings(Section):
    """Keys that every `[model]` has."""

    kind: str
