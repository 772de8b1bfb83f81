"""`[method]`: one module a kind, with the keys of that kind."""

from common.sections import Section


class MethodSettings(Section):
    """Keys that every `[method]` has."""

    kind: str
