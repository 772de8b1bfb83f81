"""Figures for the quality gates and the report; `etl/figures/summary.py` fills them in."""

from collections import Counter
from dataclasses import dataclass, field

from common.errors import CheckError
from etl.lake.tombstones import FORGOTTEN
from schemas.kept_tokens import KeptTokens
from schemas.tables import SPLITS


@dataclass(frozen=True)
class ShardFacts:
    """Shard as written: rows, rows of each row group in the order of the file, bytes."""

    rows: int
    row_groups: list[int]
    bytes: int
    packed_records: int | None = None
    """Records that end in it, where rows are packed; None: each row is one."""
    silo: int | None = None
    """Number of the group whose rows alone it has; None: it may have rows of several."""

    @property
    def records(self) -> int:
        """Records that end in the shard."""
        return self.rows if self.packed_records is None else self.packed_records


@dataclass(frozen=True)
class Lengths:
    """Distribution of lengths. Bin k counts those in [2^k, 2^(k+1)); bin -1 those that are 0."""

    rows: int = 0
    total: int = 0
    maximum: int = 0
    bins: dict[int, int] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return self.total / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class TokenFacts:
    """Tokens of a feature in one split before truncation, and the excess over `limit` tokens a row."""

    lengths: Lengths
    limit: int | None
    """None: no text is truncated."""
    cut_tokens: int
    cut_rows: int
    keeping: dict[str, int] = field(default_factory=dict)
    """Smallest length that keeps a percentage of the tokens, by percentage."""

    def kept(self) -> KeptTokens | None:
        """Return what the length keeps, for the manifest; None without a token, or where nothing is truncated."""
        if not self.lengths.total or not self.keeping or self.limit is None:
            return None
        share = 1 - self.cut_tokens / self.lengths.total
        return KeptTokens(length=self.limit, share=round(share, 6), keeping=self.keeping)


@dataclass(frozen=True)
class TypedFacts:
    """Typed column: records of bronze whose value was normalised, was invalid, or was missing; and published rows
    without a value of their own, and with an outlier.
    """

    column: str
    kind: str
    normalised: int
    invalid: int
    missing: int
    published_missing: int
    published_outliers: int


@dataclass(frozen=True)
class Distribution:
    """Values of a typed column among sampled published records (etl/figures/columns.py)."""

    rows: int
    missing: int
    edges: list[float]
    """Of the bins of numbers (dates in days since 1970), of which the outermost take in all beyond; [] for names."""
    counts: list[int]
    """Records by bin, or by name."""
    names: list[str]
    """Categories, the most frequent first; [] for numbers."""


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of each two columns of numbers, -1 to 1; None where it is not defined."""

    names: list[str]
    values: list[list[float | None]]


@dataclass(frozen=True)
class RuleEffect:
    """Effect of a cleaning rule: the records it touched, and its replacements (or 1 a record for a filter)."""

    records: int
    changes: int


@dataclass(frozen=True)
class Cluster:
    """Cluster of duplicates; `record_id` is its survivor, or the smallest id where all are kept."""

    cluster_id: str
    records: int
    record_id: str


@dataclass(frozen=True)
class LabelConflict:
    """Cluster whose records have different labels, and its records by label."""

    cluster: Cluster
    labels: dict[str, int]


@dataclass(frozen=True)
class SourceFacts:
    """`[[source]]`: its files, their bytes, the records in them, and the quarantined ones."""

    index: int
    path: str
    format: str
    files: int
    unreadable: int
    bytes: int
    records: int
    quarantined: int
    sizes: dict[str, int] = field(default_factory=dict)
    """Lines and bytes of the records, and of the quarantined ones (etl/sources/accounting.py)."""
    silent: int = 0
    """Files with content of which nothing came."""
    first_silent: str = ""
    """The first of these, and what was skipped of it."""
    encodings: tuple[str, ...] = ()
    """Encodings of its text files."""


@dataclass(frozen=True)
class Drift:
    """Distance of a measure of a version from that of the previous one (etl/reporting/drift.py)."""

    measure: str
    value: float


@dataclass(frozen=True)
class Summary:
    """All figures of a version; `published`, `encoded` and `classes` are by split, counts are records."""

    records_in: int
    quarantined_by_reason: dict[str, int]
    filtered_by_rule: dict[str, int]
    exact_duplicates: int
    near_duplicates: int
    published: dict[str, int]
    encoded: dict[str, int]
    """Rows of silver/encoded; equal to `published` unless encoding lost or repeated some."""
    unlabelled: int
    """Published records without a label, where a label is configured."""
    effects: dict[str, RuleEffect]
    classes_before: dict[str, int]
    classes: dict[str, dict[str, int]]
    class_groups: dict[str, int]
    """Separable groups by class: clusters, or values of the group column where those are fewer."""
    characters: dict[str, dict[str, Lengths]]
    """Lengths by column, then `read` (bronze) and `published` (cleaned)."""
    tokens: dict[str, dict[str, TokenFacts]]
    """Tokens by feature, then by split."""
    cluster_sizes: dict[int, int]
    """Records of a cluster: number of clusters of that size."""
    largest_clusters: list[Cluster]
    shards: dict[str, list[ShardFacts]]
    rows_per_group: int
    """Rows of a full row group: as configured, or the computed default."""
    sources: list[SourceFacts]
    typed: dict[str, TypedFacts] = field(default_factory=dict)
    """Figures by feature."""
    distributions: dict[str, Distribution] = field(default_factory=dict)
    """Distributions by typed feature."""
    correlation: Correlation | None = None
    words: dict[str, int] = field(default_factory=dict)
    """Sampled published records by word (etl/figures/vocabulary.py)."""
    label_conflicts: int = 0
    """Records in clusters whose records have different labels."""
    conflicting_clusters: int = 0
    largest_conflicts: list[LabelConflict] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    """Distances from the previous version; empty where there is none."""

    def kept_tokens(self) -> dict[str, KeptTokens]:
        """Return what the length of each feature of text keeps of the training split."""
        found = {name: by_split.get("train") for name, by_split in self.tokens.items()}
        kept = {name: facts.kept() for name, facts in found.items() if facts is not None}
        return {name: one for name, one in kept.items() if one is not None}

    @property
    def quarantined(self) -> int:
        return sum(self.quarantined_by_reason.values())

    def sizes(self) -> dict[str, int]:
        """Return the lines and bytes of the records of all sources, and of the quarantined ones."""
        return dict(sum((Counter(source.sizes) for source in self.sources), Counter()))

    @property
    def forgotten(self) -> int:
        """Quarantined records that were erased on request, and are not judged."""
        return self.quarantined_by_reason.get(FORGOTTEN, 0)

    @property
    def filtered(self) -> int:
        return sum(self.filtered_by_rule.values())

    @property
    def published_rows(self) -> int:
        return sum(self.published.values())

    @property
    def accounted(self) -> int:
        """Records with a known outcome; equals `records_in` unless some were lost or counted twice."""
        return (
            self.quarantined
            + self.filtered
            + self.exact_duplicates
            + self.near_duplicates
            + self.published_rows
        )

    def counts(self) -> dict[str, int]:
        """Return the six counts of the manifest and of summary.json."""
        return {
            "records_in": self.records_in,
            "quarantined": self.quarantined,
            "filtered": self.filtered,
            "exact_duplicates": self.exact_duplicates,
            "near_duplicates": self.near_duplicates,
            "published": self.published_rows,
        }

    def check_accounting(self) -> None:
        """Raise CheckError when a record was lost or counted twice on its way from the sources to the shards."""
        if self.records_in != self.accounted:
            parts = " + ".join(
                f"{count:,} {name.replace('_', ' ')}" for name, count in list(self.counts().items())[1:]
            )
            raise CheckError(
                f"the records do not add up: {self.records_in:,} were read, but {parts} = {self.accounted:,}; "
                "run the pipeline again from the first stage (python -m etl.pipeline --again)"
            )
        for name, others in (("encoded", self.encoded), ("in the shards", self._records_in_shards())):
            for split in SPLITS:
                if self.published.get(split, 0) != others.get(split, 0):
                    raise CheckError(
                        f"the split {split} has {self.published.get(split, 0):,} published records, but "
                        f"{others.get(split, 0):,} {name}; run the stages encode and publish with --again"
                    )

    def _records_in_shards(self) -> dict[str, int]:
        return {split: sum(shard.records for shard in shards) for split, shards in self.shards.items()}
