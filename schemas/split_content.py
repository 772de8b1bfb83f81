"""Splits in the manifest: their shards, and the sums that prove what was written and read."""

import math
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from schemas.class_balance import ClassBalance


class ManifestPart(BaseModel):
    """Part of the manifest; unknown keys are refused so that both sides agree on its meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    LATER: ClassVar[frozenset[str]] = frozenset()
    """Keys that earlier manifests lack: left out where None, so that those keep their roots."""

    @model_serializer(mode="wrap")
    def _without_later_keys(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = written(self)
        return {key: value for key, value in document.items() if value is not None or key not in self.LATER}


class Shard(ManifestPart):
    """Parquet file of one split."""

    LATER = frozenset({"records", "silo"})
    path: str
    """Relative to `table_uri`."""
    bytes: int
    rows: int
    row_groups: list[int]
    """Rows of each row group, in file order."""
    row_group_crc32: list[int]
    """One CRC-32 a row group, over the decoded values of the key, label and feature columns in the order of
    `columns`, little-endian (`provenance.checksums.row_group_crc32`).

    Readers compare it whenever they read a row group.
    """
    sha256: str
    epoch_row_groups: list[int] | None = None
    """Rows of each row group in an epoch, repeats included, where a policy repeats rows or leaves some out; None: each
    once.
    """
    records: int | None = None
    """Records that end in the shard, where rows are packed; None: its rows."""
    silo: int | None = None
    """Number of the group whose rows alone the shard has (`publish.by_group`); None: it may have rows of several."""

    @property
    def epoch_rows(self) -> int:
        """Rows of an epoch, repeats included."""
        return self.rows if self.epoch_row_groups is None else sum(self.epoch_row_groups)


class Packing(ManifestPart):
    """Records of a split whose rows are packed: laid end to end, a separator after each, and cut into rows."""

    records: int
    record_key_sums: tuple[int, int]
    """Sums modulo 2^64 of the two halves of the records' keys."""
    tokens: int
    """Tokens of all records, without separators."""
    token_sums: tuple[int, int]
    """Sums over the tokens and separators, each mixed with record and position (`provenance.packed.token_sums`)."""
    padding: int
    """Tokens 0 at the end of the last row."""
    text_bytes: int
    """UTF-8 bytes of the records' cleaned texts."""


class SplitContent(ManifestPart):
    """Shards of a split, in order, and the sums that prove each row was read as often as it should be."""

    LATER = frozenset({"packing", "largest_group"})
    rows: int
    key_sums: tuple[int, int]
    """Sums modulo 2^64 over all rows of the two little-endian uint64 halves of `record_key`."""
    label_counts: dict[str, int]
    balance: ClassBalance = ClassBalance()
    epoch_rows: int
    """Rows of an epoch, with the repeats of `balance`."""
    epoch_key_sums: tuple[int, int]
    """As `key_sums`, over the rows of an epoch with their repeats."""
    shards: list[Shard]
    packing: Packing | None = None
    """Records of the rows; None: each row is one."""
    largest_group: int | None = None
    """Most records that have an equal value of `columns.group`; None without that column."""

    @property
    def records(self) -> int:
        """Published records of the split."""
        return self.rows if self.packing is None else self.packing.records

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        _check_balance(self)
        return self


def _check_balance(split: SplitContent) -> None:
    """Check that the numbers of a split are consistent; raise ValueError where they are not.

    A manifest that was altered and sealed again would pass its hashes, but be read in another order than it states.
    """
    balance = split.balance
    balance.check(split.label_counts)
    if sum(shard.rows for shard in split.shards) != split.rows:
        raise ValueError(f"the shards of a split do not have its {split.rows:,} rows")
    if split.packing is not None and sum(shard.records or 0 for shard in split.shards) != split.records:
        raise ValueError(f"the shards of a split do not have its {split.records:,} records")
    for shard in split.shards:
        if sum(shard.row_groups) != shard.rows or len(shard.row_groups) != len(shard.row_group_crc32):
            raise ValueError(f"the row groups of {shard.path} do not have its {shard.rows:,} rows")
    if balance.repeats:
        _check_repeats(split)
    elif (
        split.epoch_rows != split.rows
        or split.epoch_key_sums != split.key_sums
        or any(shard.epoch_row_groups is not None for shard in split.shards)
    ):
        raise ValueError(
            f"with the policy {balance.policy!r} every row is taken once, but a split says otherwise"
        )


def _check_repeats(split: SplitContent) -> None:
    at_least, at_most = (0, 1) if split.balance.policy == "where" else (1, math.inf)
    taken = sum(times * split.label_counts[name] for name, times in split.balance.repeats.items())
    in_groups = 0
    for shard in split.shards:
        groups = shard.epoch_row_groups or []
        if len(groups) != len(shard.row_groups) or any(
            not at_least * stored <= now <= at_most * stored
            for now, stored in zip(groups, shard.row_groups, strict=True)
        ):
            raise ValueError(f"the row groups of {shard.path} cannot give the rows {groups} in an epoch")
        in_groups += sum(groups)
    if not taken == in_groups == split.epoch_rows:
        raise ValueError(
            f"an epoch takes {taken:,} rows by the classes of a split, {in_groups:,} by its row groups, but "
            f"{split.epoch_rows:,} are stated"
        )
