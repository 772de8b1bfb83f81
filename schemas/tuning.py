"""Section `[tune]`: what a search over settings of a training tries, how many times, and when it gives a trial up."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from common.sections import NonEmpty, Positive, Section

Number = int | float
Scalar = str | int | float | bool
_OWN_KEYS = frozenset({"values", "low", "high", "log", "step"})


class Dimension(Section):
    """`[tune.space]`: the values that a search may give to one key of the configuration."""

    values: Annotated[list[Scalar | list[Scalar]], Field(min_length=1)] | None = None
    """A choice of values; the other keys give a range instead."""
    low: Number | None = None
    high: Number | None = None
    """Whole numbers where `low`, `high` and `step` are whole, any between them otherwise; both ends belong to it."""
    log: bool = False
    """Draw uniformly in the logarithm."""
    step: Annotated[Number, Field(gt=0)] | None = None
    """Distance between the numbers of a range."""

    @model_validator(mode="after")
    def _choice_or_range(self) -> Self:
        if (self.values is None) == (self.low is None and self.high is None):
            raise ValueError("give either values = [...], or low and high")
        if self.values is not None:
            if self.log or self.step is not None:
                raise ValueError("log and step belong to a range, low to high: leave them out beside values")
            if len({repr(value) for value in self.values}) < len(self.values):
                raise ValueError("values names one twice")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("a range needs low and high, and low below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("with log = true, low must be more than 0, and there is no step")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError("step is longer than the range, which so has one number: lower it")
        return self

    @property
    def ends(self) -> tuple[Number, Number]:
        """Both ends of a range."""
        return self.low or 0, self.high or 0

    @property
    def samples(self) -> Sequence[Any]:
        """Values that show whether a key takes all: those of a choice, or the ends of a range and one step."""
        if self.values is not None:
            return self.values
        low, high = self.ends
        return (low, high) if self.step is None else (low, low + self.step, high)

    @property
    def whole(self) -> bool:
        """True for a range of whole numbers."""
        return all(isinstance(one, int) for one in (self.low, self.high, self.step) if one is not None)

    def listed(self) -> list[Any] | None:
        """Return all values in order; None for a range of more than can be listed."""
        if self.values is not None:
            return list(self.values)
        low, high = self.ends
        step = 1 if self.whole and self.step is None and not self.log else self.step
        if step is None:
            return None
        # A little more than the division gives, so that 0.3 is in 0 to 0.3 by 0.1.
        return [round(low + place * step, 12) for place in range(int((high - low) / step + 1e-9) + 1)]


def _flat(space: Any) -> Any:
    """Join nested tables to dotted keys: without quotation marks `optimizer.learning_rate` is a table in a table.

    What `--set` gives, always without them, is added to what the file has with them.
    """
    if not isinstance(space, dict):
        return space
    found: dict[str, Any] = {}
    for key, value in space.items():
        below = {"": value}
        if isinstance(value, dict) and value and not _OWN_KEYS & value.keys():
            below = {f".{name}": one for name, one in _flat(value).items()}
        for name, one in below.items():
            before = found.get(f"{key}{name}")
            joined = isinstance(before, dict) and isinstance(one, dict)
            found[f"{key}{name}"] = (before or {}) | one if joined else one
    return found


class Tune(Section):
    """`[tune]`: a search by `training.tune`, which nothing else reads."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """`tpe`: tree-structured Parzen estimator (Bergstra et al. 2011); `grid`: all combinations, once each."""
    pruner: Literal["none", "median", "halving", "hyperband"] = "median"
    """Which trials end early, judged after each epoch: those worse than the median of the others at that epoch; all but
    the best of each rung, asynchronously (Li et al. 2020); those by several such ladders (Li et al. 2018).
    """
    least_epochs: Positive = 1
    """Epochs that each trial trains before it may be given up."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """With `halving` and `hyperband`: one trial in so many passes a rung."""
    trials: Positive = 20
    """Trials of the whole study, those that failed included; of a grid at most its combinations."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler, of the search alone: that of each training is `train.seed`."""
    storage: NonEmpty | None = None
    """`sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`; by default a file in the study's folder."""
    metric: NonEmpty | None = None
    """Result on the validation split to search by; by default the one that decides which checkpoint is the best."""
    higher_is_better: bool | None = None
    """Says so of a `metric` that is neither `loss` nor the objective's own."""
    space: Annotated[dict[NonEmpty, Dimension], BeforeValidator(_flat)] = {}
    """By key of the configuration: `{ low = 1e-4, high = 1e-2, log = true }` or `{ values = [1, 2, 4] }`."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.storage is not None and not self.storage.startswith(("sqlite:///", "postgresql")):
            raise ValueError("storage must begin with sqlite:/// or postgresql://")
        if self.storage in ("sqlite:///", "sqlite:///:memory:"):
            raise ValueError("storage names no file, and a study in memory cannot go on: give sqlite:///FILE")
        if self.sampler == "grid":
            for key, dimension in self.space.items():
                if dimension.listed() is None:
                    raise ValueError(
                        f'sampler = "grid" needs values to list: give {key!r} values = [...], or a range with a step '
                        "and without log"
                    )
        return self
