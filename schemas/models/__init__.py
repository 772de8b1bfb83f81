"""`[model]`: one module a kind, with the keys of that kind."""

from common.sections import NonEmpty, Section


class ModelSettings(Section):
    """Keys that every `[model]` has."""

    kind: str
    checkpoint_layers: bool = False
    """Keep only what goes into each layer for backward, and compute the rest of it again: less memory, more time (Chen
    et al. 2016, activation checkpointing).
    """


class StartSettings(ModelSettings):
    """Keys of a model that can begin with the weights of another run."""

    start: NonEmpty | None = None
    """Folder of a run, such as `runs/x`, whose best checkpoint gives the weights below the heads; both have the same
    tokenizer.
    """
