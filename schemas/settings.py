"""Sections of a configuration, one class each: every key with its type, bounds, default and meaning.

Sections whose keys depend on a kind (sources, features, models, objectives, methods, optimizers) have a folder each
(schemas/kinds.py), `[clean]` has a module (schemas/cleaning.py). A misspelt key in any section stops every command
before it starts, whichever half of the product the section is for.
"""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from common.sections import Name, NonEmpty, Positive, Section, Share


def _reads_times(notation: str) -> str:
    """Refuse a format without a year, or with a zone by its name, which strptime takes for local time."""
    directives = re.findall(r"%(.)", notation)
    if "Z" in directives:
        raise ValueError(
            "%Z tells no zone reliably: use %z for an offset, or write a name such as UTC or GMT as it is"
        )
    if not set(directives) & set("YyGcx"):
        raise ValueError("a time needs its year, such as %Y")
    try:
        datetime.strptime(datetime(2024, 2, 29, tzinfo=UTC).strftime(notation), notation)
    except (ValueError, re.error) as error:  # the latter where a directive stands in it twice
        raise ValueError(f"not a format of Python's strptime: {error}") from error
    return notation


class Dataset(Section):
    """`[dataset]`"""

    name: Name
    root: NonEmpty
    """Folder (a path or a URI) that holds `<name>/bronze`, `silver`, `gold`, …"""


class Columns(Section):
    """`[columns]`: the columns of the sources by role."""

    id: NonEmpty | None = None
    label: NonEmpty | None = None
    group: NonEmpty | None = None
    """Keep records with equal values together in one of train, validation and test."""
    time: NonEmpty | None = None
    """ISO 8601 text, or seconds since 1970 as a number; without a zone it is taken as UTC."""
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    """Unit of numbers since 1970, also of those written as text; typed timestamps of Parquet have their own."""
    time_format: Annotated[NonEmpty, AfterValidator(_reads_times)] | None = None
    """Format of Python's strptime for all times that are not typed, such as `%d/%m/%Y %H:%M`; UTC without `%z`."""
    rename: dict[str, NonEmpty] = {}
    """Name in the tables = name or path in the files, of columns that are called otherwise there."""

    @model_validator(mode="after")
    def _of_time(self) -> Self:
        if self.time is None and (self.time_unit or self.time_format):
            raise ValueError("time_unit and time_format say how columns.time is written, which is missing")
        if self.time_unit and self.time_format:
            raise ValueError("give either time_unit or time_format, not both")
        return self

    def in_files(self, name: str) -> str:
        """Return the name or path in the files of a column of the tables."""
        return self.rename.get(name, name)


class Deduplicate(Section):
    """`[deduplicate]`"""

    column: NonEmpty | None = None
    """Column to compare; by default that of the first feature of text or images, without any the whole row."""
    fold_case: bool = True
    """Exact duplicates may differ in upper and lower case."""
    nfkc: bool = True
    """Exact duplicates may differ in compatible characters, which NFKC makes equal: `ﬁ` and `fi`, `Ａ` and `A`."""
    fold_white_space: bool = True
    """Exact duplicates may differ in the length and kind of white space, but not in whether there is any."""
    signs_below: Annotated[int, Field(ge=0)] = 50
    """Words below which texts that differ in a sign are no near-duplicates; 0: signs never count."""
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of shingle sets from which on documents are near-duplicates; 1: equal sets."""
    shingle: Positive = 5
    """Tokens in a shingle."""
    distance: Annotated[float, Field(ge=0, le=0.5)] = 0.12
    """Images: root mean square difference of two thumbnails (32 × 32 pixels), in standard deviations of their pixels,
    up to which they are near-duplicates; 0: equal thumbnails.
    """
    tolerance: dict[NonEmpty, Annotated[float, Field(gt=0)]] = {}
    """Of whole rows, by column of numbers or dates: distance up to which rows are near-duplicates that are equal in all
    other columns; in days for dates.
    """
    duplicates: Literal["drop", "keep"] = "drop"
    survivor: Literal["longest", "first", "newest"] = "longest"
    label_conflicts: Literal["survivor", "drop", "keep", "majority"] = "survivor"
    """Treatment of copies and near-copies that have different labels: as of others, leave all of them out, keep all of
    them, or let one with the most frequent label survive.
    """


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
    """Shards of the training split; other splits get shards in proportion to their rows."""
    target_shard_bytes: Positive | None = None
    """Alternative to `shards`: approximate decoded bytes of a shard.

    With neither: 1 GiB, but up to 8 shards for less.
    """
    rows_per_group: Positive | None = None
    """Rows of a Parquet row group. By default about 4 MB decoded, less where training would have fewer than 256."""
    by_group: bool = False
    """Shards of the training split have the rows of one value of `columns.group` each, for federated training."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.shards is not None and self.target_shard_bytes is not None:
            raise ValueError("give either shards or target_shard_bytes, not both")
        return self


class Balance(Section):
    """`[balance]`: compensation for classes of different sizes, computed from the rows of the training split."""

    policy: Literal["none", "weights", "oversample"] = "none"
    """`weights`: weight the loss of a row by the rarity of its class.

    `oversample`: repeat the rows of rarer classes in an epoch, by index; no row is copied.
    """
    strength: Literal["balanced", "square_root"] = "balanced"
    """Weights in inverse proportion to the rows of the class, or to their square root."""
    most: Annotated[int, Field(ge=2)] = 10
    """With `oversample`: largest number of repeats of a row in an epoch."""

    def effective(self) -> dict[str, str | int]:
        """Return the keys that the policy uses; the others change nothing."""
        used = {"none": set[str](), "weights": {"strength"}, "oversample": {"most"}}[self.policy]
        return self.model_dump(mode="json", include={"policy"} | used)


def _finite(value: Any) -> Any:
    """Refuse numbers that are not finite, at any depth; JSON, which the configuration is hashed in, has none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number; leave the limit out")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(inner)
    return value


class Expectation(Section):
    """`[[quality.expectation]]`: one of Great Expectations' that the published records have to meet."""

    type: NonEmpty
    """Name in the library, for instance `expect_column_values_to_be_in_set`."""
    kwargs: Annotated[dict[str, Any], AfterValidator(_finite)] = {}
    """Arguments: `column`, `value_set`, `min_value`, `mostly` …"""


Distance = Annotated[float, Field(ge=0)]


class Quality(Section):
    """`[quality]`: the gates before a publication."""

    max_quarantine_share: Share = 0.05
    """Share of the records read."""
    max_filtered_share: Share = 0.5
    """Share of the records read."""
    max_duplicate_share: Share = 0.9
    """Exact and near-duplicates together, as a share of the records read."""
    max_label_conflict_share: Share = 1.0
    """Records whose copies or near-copies have another label, as a share of the records read."""
    min_published: Positive = 1
    max_split_deviation: Share = 0.02
    """Largest difference between a split's share of the rows and the configured one (from 1,000 rows on)."""
    max_class_deviation: Share = 0.01
    """Largest difference of a class's share between a split and the whole, for classes with 500 groups or more."""
    max_cut_share: Share = 1.0
    """Share of the training split's tokens that truncation cuts off."""
    max_class_drift: Distance | None = None
    """Population stability index between the classes of this version and of the previous one; no gate without it."""
    max_length_drift: Distance | None = None
    """Population stability index between the lengths of the texts."""
    max_vocabulary_drift: Share | None = None
    """Jensen–Shannon divergence, in bits, between the words of the published texts."""
    max_column_drift: Distance | None = None
    """Population stability index between the values of a typed column, of the one that moved most."""
    max_outcome_drift: Distance | None = None
    """Population stability index of the outcomes of records: quarantined, filtered by which rule, duplicate …"""

    expectation: list[Expectation] = []
    expectations_file: NonEmpty | None = None
    """Python file whose function `expectations()` returns a list of Great Expectations' expectations."""

    def drift_limits(self) -> dict[str, float | None]:
        """Return the limits by measure."""
        return {
            "classes": self.max_class_drift,
            "lengths": self.max_length_drift,
            "vocabulary": self.max_vocabulary_drift,
            "columns": self.max_column_drift,
            "outcomes": self.max_outcome_drift,
        }


class Increments(Section):
    """`[increments]`: handling of new, changed and vanished source files."""

    enabled: bool = True
    """Process only new files where nothing else has changed; false: rebuild everything."""
    changed: Literal["rebuild", "keep", "stop"] = "rebuild"
    """Policy for files whose content has changed since they were ingested: rebuild everything, keep the ingested
    records, or stop with an error.
    """
    vanished: Literal["rebuild", "keep", "stop"] = "rebuild"
    """Policy for files that no longer exist."""
    _again: bool = PrivateAttr(default=False)  # of one run, and no part of the configuration or of its hash

    @property
    def go_on(self) -> bool:
        """True where a stage may continue from an earlier run."""
        return self.enabled and not self._again

    def again(self) -> Self:
        """Return a copy for a run that rebuilds everything."""
        copy = self.model_copy()
        copy._again = True
        return copy


class Versions(Section):
    """`[versions]`: retention by `ringlake-etl vacuum` of the published versions that meet either condition."""

    keep: Positive = 10
    """Number of newest versions to keep."""
    keep_days: Annotated[float, Field(ge=0)] = 30.0
    """Keep all versions published within so many days."""


class Train(Section):
    """`[train]`"""

    epochs: Positive = 3
    batch: Positive = 64
    """Rows of a *global* batch, over all ranks."""
    checkpoint_every: Positive = 1000
    """Interval in steps."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = None
    """Most minutes between two checkpoints, whatever the steps."""
    grace: Annotated[float, Field(gt=0)] = 25.0
    """Seconds after SIGTERM, SIGUSR1 or Ctrl-C in which the training has to finish its step and write a checkpoint."""
    keep_checkpoints: Positive = 3
    patience: Positive | None = None
    """Number of consecutive validations without a better result after which training ends; without it all epochs are
    trained.
    """
    where: dict[NonEmpty, NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)]] | None = None
    """Rows of the training split that training takes: the label column = a class or a list of classes; None: all rows.

    It is sealed in the manifest when the data set is published, like the class balance.
    """
    freeze: list[NonEmpty] | None = None
    """Patterns of the names of parameters that keep their first values, such as `body.embeddings.*`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, dropout and the order of the rows. 0 is a seed like any other."""
    streams: Positive = 64
    window: Positive = 4
    """Row groups that are shuffled together within a stream."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    on_non_finite: Literal["stop", "skip"] = "stop"
    """When the loss or the gradient of a batch is not finite: end the training, or leave the weights unchanged."""
    max_skipped: Positive = 100
    """Number of batches skipped in a row after which training ends."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of forward and backward; weights, gradients and optimizer stay float32. `fp16` scales the loss by a
    factor that adapts to overflows.
    """
    accumulate: Positive = 1
    """Parts that each rank cuts its rows of a batch into, forward and backward one after the other; the update is that
    of the whole batch.
    """
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average of the weights with this decay a step, and judge and hand on that; None: the
    weights as they are.
    """
    backend: Literal["horovod", "ddp"] = "horovod"
    """Library over which the ranks meet: Horovod, started by horovodrun, or PyTorch's process groups, by torchrun."""
    gradients: Literal["auto", "flat", "overlapped"] = "auto"
    """Summation of gradients over the ranks: in one piece after backward, or in groups while it runs."""
    reduction: Literal["sum", "adasum"] = "sum"
    """`adasum`: add what is orthogonal in the gradients of the ranks, and average what is parallel (Maleki et al.
    2021); the update then depends on their number.
    """
    gradient_compression: Literal["none", "fp16"] = "none"
    """`fp16`: send and sum gradients in half precision."""
    threads: Positive = 1
    """Torch threads of a rank."""
    workers: Positive = 2
    """Reader threads of a rank."""
    read_memory: Positive = 3 << 30
    """Bytes that the reader of a rank may hold."""
    log_every: Positive = 10
    commit_every: Positive = 50
    """Interval in steps at which elastic training commits its state to memory: the most that a failure loses."""
    watchdog: Annotated[float, Field(ge=0)] = 300.0
    """Seconds without a step after which a rank is ended; 0: never."""
    runs: NonEmpty = "runs"

    @model_validator(mode="after")
    def _adasum_goes_alone(self) -> Self:
        if self.reduction == "adasum" and (self.gradients != "auto" or self.gradient_compression != "none"):
            raise ValueError(
                'reduction = "adasum" exchanges gradients in its own way: leave gradients and gradient_compression out'
            )
        return self

    def classes_taken(self) -> list[str]:
        """Return the classes that `where` names, sorted; none without it."""
        given = [] if self.where is None else next(iter(self.where.values()))
        return sorted({given} if isinstance(given, str) else set(given))


class Augment(Section):
    """`[augment]`: random changes of images in training, each off by default."""

    flip: Share = 0.0
    """Share of the images that are mirrored, left to right."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle to either side, in degrees."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift in any direction, as a share of the side; what comes in is reflected at the border."""
    crop: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Largest share of a side that is cut off; the rest is enlarged."""
    brightness: Share = 0.0
    """Largest change of the levels, as a share of them."""
    erasing: Share = 0.0
    """Share of the images of which a rectangle is made black, 2 to 20% of the area."""

    @property
    def moves(self) -> bool:
        """True where pixels change their places."""
        return any((self.flip, self.rotation, self.shift, self.crop))

    @property
    def changes(self) -> bool:
        """True where anything is changed."""
        return self.moves or any((self.brightness, self.erasing))


class Evaluate(Section):
    """`[evaluate]`"""

    batch: Positive = 256
    baseline: bool = True
    """Train the linear baseline on the full cleaned texts, and show it beside the model."""
    hashed_features: Positive = 1 << 18
    regularisation: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = [1.0, 10.0, 100.0]
    """Candidates for the inverse regularisation strength C; the best on the validation split is chosen."""
    attack_epsilon: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Attack the model within this distance, in the units of `method.epsilon`; None: only where an adversarial method
    trained it, within that method's.
    """
    attack_steps: Positive = 20
    """Steps of PGD; FGSM has one."""
    attack_restarts: Positive = 2
    """Random starts of PGD."""
    attack_rows: Positive = 1000
    """Most rows that are attacked, chosen by record key."""
