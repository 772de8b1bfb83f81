"""Budget of a private training: what it spends, what it may spend, and what that covers."""

from dataclasses import dataclass
from typing import Any

from common.errors import UsageError
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.methods.private import Private
from training.privacy import accountant, poisson

NOT_COVERED = (
    "what is fitted on the data before training: tokenizer, statistics, class list, class weights",
    "which records were left out as duplicates or filtered, and the manifest with its counts and its root, by which "
    "the rows are ordered",
    "the rows of validation and test, and with them early stopping, the choice of the best checkpoint, thresholds and "
    "all figures of evaluations",
    "other trainings on these rows, as those that chose hyperparameters or gave the first weights: each spends its own",
    "the baselines of an evaluation, which learn without noise",
    "times, and single bits of floating-point results (Mironov 2012)",
)
"""Ways in which a record may show that ε does not bound."""


@dataclass(frozen=True)
class Budget:
    """Noise of a training on one data set, and the ε of all that it has learned from since its first step."""

    settings: Private
    noise_multiplier: float
    epsilon: float
    mu: float | None
    """All that is spent, as Gaussian differential privacy; None with Poisson sampling, which is accounted otherwise."""
    largest_group: int | None
    """Rows of the largest group where groups are hidden; None where rows are."""

    @classmethod
    def of(cls, config: Configuration, manifest: Manifest, before: float = 0.0) -> "Budget":
        """Plan the epochs that are configured, after what was spent `before`, a μ, on other data.

        Raises UsageError where that is more than `epsilon`, or the largest group is not known.
        """
        settings = config.method
        assert isinstance(settings, Private)
        of_groups = (settings.adjacency or ("group" if config.columns.group else "row")) == "group"
        if settings.sampling == "poisson":
            if of_groups:
                raise UsageError(
                    f"the groups of {config.columns.group!r} are hidden as a whole, which method.sampling = "
                    '"poisson" is not accounted for: set sampling = "once", or adjacency = "row" if a group is not a '
                    "person"
                )
            return cls._of_draws(settings, config, manifest)
        group = _largest_group(config, manifest) if of_groups else None
        epochs, noise_multiplier = config.train.epochs, settings.noise_multiplier
        if noise_multiplier is None:
            assert settings.epsilon is not None
            allowed = accountant.mu_of(settings.epsilon, settings.delta)
            if before:
                raise UsageError(
                    f"method.epsilon = {settings.epsilon:g} was spent on the data before, and nothing is left of it "
                    "for these: start another run, or begin with method.noise_multiplier set, beside which epsilon "
                    "is the limit for all data together"
                )
            noise_multiplier = accountant.noise_multiplier_of(allowed, epochs, group or 1)
        mu = accountant.composed(before, accountant.spent(noise_multiplier, epochs, group or 1))
        budget = cls(settings, noise_multiplier, accountant.epsilon_of(mu, settings.delta), mu, group)
        budget.check(f"{epochs:,} epochs" + (" after those on other data" if before else ""))
        return budget

    @classmethod
    def _of_draws(cls, settings: Private, config: Configuration, manifest: Manifest) -> "Budget":
        rows = manifest.splits["train"].epoch_rows
        share, steps = (
            min(1.0, config.train.batch / rows),
            -(-rows // config.train.batch) * config.train.epochs,
        )
        noise_multiplier = settings.noise_multiplier
        if noise_multiplier is None:
            assert settings.epsilon is not None
            noise_multiplier = poisson.noise_multiplier_of(settings.epsilon, share, steps, settings.delta)
        epsilon = poisson.epsilon_of(noise_multiplier, share, steps, settings.delta)
        budget = cls(settings, noise_multiplier, epsilon, None, None)
        budget.check(f"{steps:,} steps")
        return budget

    def check(self, what: str) -> None:
        """Raise UsageError if more is spent than `method.epsilon`."""
        limit = self.settings.epsilon
        if limit is not None and self.epsilon > limit * (1 + accountant.TOLERANCE):
            raise UsageError(
                f"{what} with the noise multiplier {self.noise_multiplier:g} spend ε = {self.epsilon:.4g} at δ = "
                f"{self.settings.delta:g}, more than method.epsilon = {limit:g}: lower train.epochs, raise "
                "method.noise_multiplier, or leave it out so that it follows from epsilon"
            )

    @property
    def adjacency(self) -> str:
        """The change of the data that is hidden."""
        if self.largest_group is None:
            return "one row replaced by a row without gradient"
        return f"all rows of one group, at most {self.largest_group:,}, replaced by rows without gradient"

    def as_json(self) -> dict[str, Any]:
        """Return the section `privacy` of summary.json and of a checkpoint."""
        return {
            "epsilon": self.epsilon,
            "delta": self.settings.delta,
            "noise_multiplier": self.noise_multiplier,
            "clip_norm": self.settings.clip_norm,
            "adjacency": self.adjacency,
            "sampling": self.settings.sampling,
            "not_covered": list(NOT_COVERED),
        }


def _largest_group(config: Configuration, manifest: Manifest) -> int:
    if config.columns.group is None:
        raise UsageError(
            'method.adjacency = "group" hides the rows with an equal columns.group, which is not set: set it and '
            'publish again, or choose adjacency = "row"'
        )
    largest = manifest.splits["train"].largest_group
    if largest is None:
        raise UsageError(
            f"the groups of {config.columns.group!r} are hidden as a whole, and the manifest, of an earlier version of "
            'ringlake, does not say how large they are: publish the data set again, or set method.adjacency = "row" '
            "if a group is not a person"
        )
    return max(1, largest)
