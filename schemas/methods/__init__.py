"""`[method]`: one module a kind, with the keys of that kind."""

from common.sections import Section


class MethodSettings(Section):
    """What every `[method]` has."""

    kind: str
