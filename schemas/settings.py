"""The sections of a configuration, one class each: every key with its type, its bounds, its default and its meaning.

The sections whose keys depend on a kind (sources, features, models, objectives, methods, optimizers) have a folder each
(schemas/kinds.py), `[clean]` has a module (schemas/cleaning.py): a misspelt key in any section stops any command before
it starts, whichever half of the product the section is for.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from common.sections import Name, NonEmpty, Positive, Section, Share


class Dataset(Section):
    """`[dataset]`"""

    name: Name
    root: NonEmpty
    """The folder (a path or a URI) that holds `<name>/bronze`, `silver`, `gold`, …"""


class Columns(Section):
    """`[columns]`: which column of the sources has which role."""

    id: NonEmpty | None = None
    label: NonEmpty | None = None
    group: NonEmpty | None = None
    """Records with the same value are never split across train, validation and test."""
    time: NonEmpty | None = None
    """ISO 8601 text, or seconds since 1970 as a number."""


class Deduplicate(Section):
    """`[deduplicate]`"""

    column: NonEmpty | None = None
    """The column that is compared; by default that of the first feature."""
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Documents with at least this Jaccard similarity of their shingle sets are near-duplicates; 1: the same set."""
    shingle: Positive = 5
    """Tokens in a shingle."""
    duplicates: Literal["drop", "keep"] = "drop"
    survivor: Literal["longest", "first", "newest"] = "longest"


class Split(Section):
    """`[split]`"""

    train: Share = 0.8
    validation: Share = 0.1
    test: Share = 0.1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9 or self.train == 0:
            raise ValueError("train, validation and test must add up to 1, and train be above 0")
        return self


class Publish(Section):
    """`[publish]`"""

    shards: Positive | None = None
    """Shards of the training split; the other splits get as many as their share of the rows asks for."""
    target_shard_bytes: Positive | None = None
    """Instead of `shards`: about so many decoded bytes a shard. With neither: 1 GiB, but up to 8 shards for less."""
    rows_per_group: Positive | None = None
    """Rows of a Parquet row group. By default about 4 MB decoded, less where training would have fewer than 256."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.shards is not None and self.target_shard_bytes is not None:
            raise ValueError("give either shards or target_shard_bytes, not both")
        return self


class Balance(Section):
    """`[balance]`: what makes up for classes of different sizes, computed from the rows of the training split."""

    policy: Literal["none", "weights", "oversample"] = "none"
    """`weights`: the loss of a row weighs by the rarity of its class. `oversample`: the rows of rarer classes are
    taken several times an epoch, by index; no row is copied."""
    strength: Literal["balanced", "square_root"] = "balanced"
    """Weights in inverse proportion to the rows of the class, or to their square root."""
    most: Annotated[int, Field(ge=2)] = 10
    """With `oversample`: no row is taken more often than this in an epoch."""

    def effective(self) -> dict[str, str | int]:
        """Return the keys that the policy makes use of: the others change nothing."""
        used = {"none": set[str](), "weights": {"strength"}, "oversample": {"most"}}[self.policy]
        return self.model_dump(mode="json", include={"policy"} | used)


class Expectation(Section):
    """`[[quality.expectation]]`: one of Great Expectations', that the published records have to meet."""

    type: NonEmpty
    """As the library names it, for instance `expect_column_values_to_be_in_set`."""
    kwargs: dict[str, Any] = {}
    """Its arguments: `column`, `value_set`, `min_value`, `mostly` …"""


Distance = Annotated[float, Field(ge=0)]


class Quality(Section):
    """`[quality]`: the gates before a publication."""

    max_quarantine_share: Share = 0.05
    """Share of the records read."""
    max_filtered_share: Share = 0.5
    """Share of the records read."""
    max_duplicate_share: Share = 0.9
    """Exact and near-duplicates together, of the records read."""
    min_published: Positive = 1
    max_split_deviation: Share = 0.02
    """How far a split's share of the rows may be from the configured one (only for 1,000 rows or more)."""
    max_class_deviation: Share = 0.01
    """How far a class's share may differ between a split and the whole, for classes with 500 groups or more."""
    max_cut_share: Share = 1.0
    """Share of the training split's tokens that truncation cuts off."""
    max_class_drift: Distance | None = None
    """Population stability index between the classes of this version and of the one before; without it no gate."""
    max_length_drift: Distance | None = None
    """Population stability index between the lengths of the texts."""
    max_vocabulary_drift: Share | None = None
    """Jensen–Shannon divergence, in bits, between the words of the published texts."""
    max_fate_drift: Distance | None = None
    """Population stability index of what became of the records: quarantined, filtered by which rule, duplicate …"""

    expectation: list[Expectation] = []
    expectations_file: NonEmpty | None = None
    """A Python file whose function `expectations()` returns a list of Great Expectations' expectations."""

    def drift_limits(self) -> dict[str, float | None]:
        """Return limits by measure."""
        return {
            "classes": self.max_class_drift,
            "lengths": self.max_length_drift,
            "vocabulary": self.max_vocabulary_drift,
            "fates": self.max_fate_drift,
        }


class Increments(Section):
    """`[increments]`: how a run goes about new files, and files that are no longer what they were."""

    enabled: bool = True
    """Process only what is new where nothing else has changed; false: make everything anew."""
    changed: Literal["rebuild", "keep", "stop"] = "rebuild"
    """Files with another content than was ingested: make everything anew, keep the records as they were ingested, or
    stop with an error."""
    vanished: Literal["rebuild", "keep", "stop"] = "rebuild"
    """Policy for files that are no longer there."""
    _again: bool = PrivateAttr(default=False)  # of one run, and no part of the configuration or of its hash

    @property
    def go_on(self) -> bool:
        """Whether a stage may go on from what an earlier run left."""
        return self.enabled and not self._again

    def again(self) -> Self:
        """Return a copy for a run that makes everything anew."""
        copy = self.model_copy()
        copy._again = True
        return copy


class Versions(Section):
    """`[versions]`: which published versions `ringlake-etl vacuum` keeps: those that meet either condition."""

    keep: Positive = 10
    """The newest ones."""
    keep_days: Annotated[float, Field(ge=0)] = 30.0
    """All that were published in the last days."""


class Train(Section):
    """`[train]`"""

    epochs: Positive = 3
    batch: Positive = 64
    """Rows of a *global* batch, over all ranks."""
    checkpoint_every: Positive = 1000
    """Steps."""
    keep_checkpoints: Positive = 3
    patience: Positive | None = None
    """End the training after so many validations in a row without a lower loss; without it all epochs are trained."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, dropout and the order of the rows. 0 is a seed like any other."""
    streams: Positive = 64
    window: Positive = 4
    """Row groups that are shuffled together within a stream."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    on_non_finite: Literal["stop", "skip"] = "stop"
    """When the loss or the gradient of a batch is not finite: end the training, or leave the weights as they are."""
    gradients: Literal["auto", "flat", "overlapped"] = "auto"
    """How the ranks sum their gradients: in one piece after backward, or in groups while it runs."""
    gradient_compression: Literal["none", "fp16"] = "none"
    """`fp16`: gradients travel, and are summed, in half precision."""
    threads: Positive = 1
    """Torch threads of a rank."""
    workers: Positive = 2
    """Reader threads of a rank."""
    read_memory: Positive = 3 << 30
    """Bytes that the reader of a rank may hold."""
    log_every: Positive = 10
    commit_every: Positive = 50
    """Steps after which elastic training commits its state to memory: what a failure throws it back by."""
    watchdog: Annotated[float, Field(ge=0)] = 300.0
    """A rank that makes no step for so many seconds is ended; 0: never."""
    runs: NonEmpty = "runs"


class Evaluate(Section):
    """`[evaluate]`"""

    batch: Positive = 256
    baseline: bool = True
    """Train the linear baseline on the full cleaned texts, and show it beside the model."""
    hashed_features: Positive = 1 << 18
    regularisation: list[Annotated[float, Field(gt=0)]] = [1.0, 10.0, 100.0]
    """Candidates for the inverse strength C; the best on the validation split is taken."""
