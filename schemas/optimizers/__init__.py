"""`[optimizer]`: one module a kind, with the keys of that kind."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.sections import Positive, Section, Share

USED = {
    "cosine": {"final"},
    "exponential": {"decay"},
    "step": {"decay", "step_epochs"},
    "constant": set(),
    "one_cycle": {"final"},
}
"""Keys of each schedule besides `warm_up`, which all have."""


class OptimizerSettings(Section):
    """Keys that every `[optimizer]` has."""

    kind: str
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Highest rate of the schedule."""
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """That of the parameters above a model's body, such as new heads over pretrained layers; the same by default."""
    schedule: Literal["cosine", "exponential", "step", "constant", "one_cycle"] = "cosine"
    """Course of the rate after the warm-up (training/optimizers/schedules.py)."""
    warm_up: Share = 0.06
    """Share of all steps with a rising learning rate; with `one_cycle` usually 0.3."""
    final: Share = 0.0
    """`cosine`, `one_cycle`: share of `learning_rate` at the end."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    """`exponential`: factor an epoch; `step`: factor of each step down."""
    step_epochs: Positive = 1
    """`step`: epochs between two steps down."""

    @model_validator(mode="after")
    def _of_schedule(self) -> Self:
        for key in sorted({"final", "decay", "step_epochs"} - USED[self.schedule]):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f'{key} is no key of schedule = "{self.schedule}", which has '
                    f"{', '.join(sorted(USED[self.schedule] | {'warm_up'}))}: leave it out, or change the schedule"
                )
        return self
