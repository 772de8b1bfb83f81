"""`[method]`: one module a kind, with the keys of that kind."""

from typing import Literal

from common.sections import Section


class MethodSettings(Section):
    """Keys that every `[method]` has."""

    kind: str

    @property
    def reads(self) -> Literal["streams", "shard", "group"]:
        """Order of the rows: streams over all of them, or silos by shard or group."""
        return "streams"
