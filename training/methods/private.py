"""Training with differential privacy: clipped rows, noise in their sum, one exchange (DP-SGD).

Abadi et al. 2016, "Deep Learning with Differential Privacy" (CCS), algorithm 1, with two differences: each row comes
once an epoch instead of being drawn, which is accounted for without amplification (training/privacy/accountant.py); and
the update rule is any optimizer, which sees nothing but the noised sum. The divisor is `train.batch`, also for the
smaller last batch of an epoch: no number that depends on the rows.

Each rank clips and sums its rows and adds the noise of its share of the coordinates. The ring is one domain of trust:
what a rank sends is not private, only what comes out.
"""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from common.errors import UsageError
from schemas.config import Configuration, canonical_json
from schemas.manifest import Manifest
from training.checkpoints import store, tensors
from training.input.batch_loader import LocalBatch
from training.methods import Batches, MethodContext
from training.methods.plain import Plain
from training.parallel.communicator import seed_of
from training.privacy import key_file
from training.privacy.budget import Budget
from training.privacy.clipped_sums import ClippedSums
from training.privacy.draws import DrawnBatches, check_memory
from training.privacy.noise import Noise

REFUSED = {
    ("precision", "fp16"): "the scale of the loss reacts to single batches, and shows it; take bf16 or fp32",
    ("gradient_compression", "fp16"): "what is rounded before it has all its noise shows rows; take none",
    (
        "reduction",
        "adasum",
    ): "it looks at each rank's part of the sum, of which only the whole has its noise; take sum",
    ("gradients", "overlapped"): "the sum can be sent only with its noise, after the last row; take auto",
}
"""Values of [train] that break the bound or have no meaning, and why."""


class Private(Plain):
    """Method whose weights tell little of any one row."""

    hides_batches: ClassVar[bool] = True

    def __init__(self, context: MethodContext) -> None:
        """Set up the sums.

        Raises UsageError for a model that learns from rows in other ways than by gradients, as batch norms do.
        """
        # What is clipped is each row, not the sum.
        super().__init__(replace(context, train=context.train.model_copy(update={"clip_norm": None})))
        # No list of the rows of a table that occur may travel or speed anything up; the noise is in all of them.
        self.exchange.close()
        _check_norms(self.model)
        of_run = context.of_run
        if of_run is None:
            raise ValueError("a private training needs to know its data and its run")
        self.of_run = of_run
        self.before, self.budget = 0.0, Budget.of(of_run.config, of_run.manifest)
        self.sums = ClippedSums(self.model, context.objective, self.budget.settings.clip_norm)
        self.flat = torch.zeros(0)
        """(n,): sum of this rank's clipped gradients, then of all ranks', with the noise."""
        self.loaded: dict[str, Any] | None = None
        """What a checkpoint says of privacy, on the rank that read it."""
        self.key: bytes | None = None
        """Known to all ranks from the first step on."""
        self.began: str | None = None
        """Hash of the weights with which a training goes on from other data."""

    @classmethod
    def check(cls, config: Configuration, manifest: Manifest) -> None:
        train, split = config.train, manifest.splits["train"]
        if split.packing is not None:
            raise UsageError(
                'method.kind = "private" bounds what a row may change, and packed rows hold parts of several records, '
                "each in several rows: no record would be protected; choose an objective whose rows are records"
            )
        if any(times > 1 for times in split.balance.repeats.values()):
            raise UsageError(
                'the data set was published with balance.policy = "oversample", by which a row comes several times an '
                'epoch: method.kind = "private" accounts for once; publish it with "none" or "weights"'
            )
        for (key, value), why in REFUSED.items():
            if getattr(train, key) == value:
                raise UsageError(f'train.{key} = "{value}" does not go with method.kind = "private": {why}')
        settings = Budget.of(config, manifest).settings
        if settings.sampling == "poisson":
            check_memory(config, manifest)
        if settings.delta * split.epoch_rows >= 1:
            raise UsageError(
                f"method.delta = {settings.delta:g} allows one of the {split.epoch_rows:,} rows to be published as it "
                f"is: give less than {1 / split.epoch_rows:.1g}"
            )

    def batches(self, position: int) -> Batches | None:
        if self.budget.settings.sampling == "once":
            return None
        of_run, communicator = self.of_run, self.context.communicator
        return DrawnBatches(
            of_run.config, of_run.manifest, of_run.run, communicator, position, lambda: self.noise().seed
        )

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "privacy": self.budget.as_json()}

    def differentiate(self, batch: LocalBatch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Leave this rank's clipped rows and its share of the noise in `flat`; return nothing of the losses."""
        world, noise = self.context.communicator.world, self.noise()
        with self.precision.autocast():
            self.flat = self.sums.of(batch, seed_of(self.context.train.seed, step))
        noise.add(self.flat, self.budget.noise_multiplier * self.sums.limit, step, world.rank, world.size)
        return torch.zeros((), device=self.context.device), torch.zeros((), device=self.context.device)

    def sum(self, batch: LocalBatch, weight_sum: torch.Tensor) -> bool:
        self.flat = self.context.communicator.begin_sum(self.flat, "private")()
        self.flat /= self.context.train.batch
        for parameter, view in zip(self.sums.parameters.values(), self.sums.views(self.flat), strict=True):
            parameter.grad = view
        return True

    def noise(self) -> Noise:
        """Return the noise of this training; called by all ranks, which draw its key where there is none yet."""
        communicator = self.context.communicator
        if self.key is None:
            # Only now has everything been judged, and what an earlier run left been removed.
            self.key = communicator.broadcast(
                key_file.create(self.of_run.run) if communicator.writes else None
            )
        training = [self.of_run.manifest.manifest_root, store.decisive(self.of_run.config), self.began]
        return Noise(self.key, canonical_json(training))

    def state(self) -> dict[str, Any]:
        privacy = {
            **self.budget.as_json(),
            "before": self.before,
            "began": self.began,
            "mu": self.budget.mu,
            "manifest_root": self.of_run.manifest.manifest_root,
            "key_fingerprint": None if self.key is None else key_file.fingerprint_of(self.key),
        }
        return {**super().state(), "privacy": privacy}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state; `broadcast`, which all ranks call, reads the key and judges what is left to spend."""
        super().load_state(state)
        self.loaded = state["privacy"]

    def broadcast(self) -> None:
        super().broadcast()
        communicator = self.context.communicator
        found = communicator.broadcast(self.loaded)
        if found is None:
            return
        if found["manifest_root"] == self.of_run.manifest.manifest_root:
            self.before, self.began = found["before"], found.get("began")
        elif found["mu"] is None:
            raise UsageError(
                'method.sampling = "poisson" is not accounted for over several data sets: start another run'
            )
        else:
            # Copies of the run may come to these data by different ways, and must not share the noise there.
            self.before, self.began = found["mu"], tensors.weights_sha256(self.model)
        self.budget = Budget.of(self.of_run.config, self.of_run.manifest, self.before)
        key, error = None, None
        if communicator.writes:
            try:
                key = key_file.read(self.of_run.run, found["key_fingerprint"])
            except UsageError as refused:
                error = refused
        communicator.agree(error)
        self.key = communicator.broadcast(key)


def _check_norms(model: nn.Module) -> None:
    """Raise UsageError for a module in which rows change each other, or statistics that no clipping bounds."""
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            or getattr(module, "running_mean", None) is not None
        ):
            raise UsageError(
                f"the model's {name} ({type(module).__name__}) learns from the rows of a batch together, which no "
                'clipped gradient bounds: method.kind = "private" needs another norm, by layer or by group of channels'
            )
