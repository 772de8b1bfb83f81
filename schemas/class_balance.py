"""Class balance as the manifest states it: what the rows of each class weigh, or how often each of them is taken."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from schemas.manifest import SplitContent


class ClassBalance(BaseModel):
    """`[balance]` applied to the rows of a split; splits that judge a model are never balanced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["none", "weights", "oversample"] = "none"
    weights: dict[str, float] = {}
    """Policy `weights`, by class: the weight of the loss of each row; 1 on average over the rows of the split, 0 for
    a class without any."""
    taken: dict[str, int] = {}
    """Policy `oversample`, by class: how often an epoch takes each row, at least once."""


def check(split: "SplitContent") -> None:
    """Raises ValueError where the numbers of a split do not belong together.

    A manifest that somebody altered and sealed again would pass its hashes; this one would be read in another order
    than it says.
    """
    balance, counts = split.balance, split.label_counts
    for policy, by_class in (("weights", balance.weights), ("oversample", balance.taken)):
        expected = set(counts) if balance.policy == policy else set()
        if set(by_class) != expected:
            raise ValueError(
                f"the policy {balance.policy!r} of a split with the classes {sorted(counts)} cannot have "
                f"{policy} numbers for {sorted(by_class)}"
            )
    if not all(math.isfinite(weight) and weight >= 0 for weight in balance.weights.values()):
        raise ValueError(f"a class cannot have one of the weights {balance.weights}")
    if not all(times >= 1 for times in balance.taken.values()):
        raise ValueError(f"each row is taken at least once an epoch, not {balance.taken}")
    if sum(shard.rows for shard in split.shards) != split.rows:
        raise ValueError(f"the shards of a split do not have its {split.rows:,} rows")
    for shard in split.shards:
        if sum(shard.row_groups) != shard.rows or len(shard.row_groups) != len(shard.row_group_crc32):
            raise ValueError(f"the row groups of {shard.path} do not have its {shard.rows:,} rows")
    if balance.policy == "oversample":
        _check_taken(split)
    elif (
        split.rows_taken != split.rows
        or split.key_sums_taken != split.key_sums
        or any(shard.row_groups_taken is not None for shard in split.shards)
    ):
        raise ValueError(
            f"with the policy {balance.policy!r} every row is taken once, but a split says otherwise"
        )


def _check_taken(split: "SplitContent") -> None:
    taken = sum(times * split.label_counts[name] for name, times in split.balance.taken.items())
    in_groups = 0
    for shard in split.shards:
        groups = shard.row_groups_taken or []
        if len(groups) != len(shard.row_groups) or any(
            now < stored for now, stored in zip(groups, shard.row_groups, strict=True)
        ):
            raise ValueError(f"the row groups of {shard.path} cannot give the rows {groups} in an epoch")
        in_groups += sum(groups)
    if not taken == in_groups == split.rows_taken:
        raise ValueError(
            f"an epoch takes {taken:,} rows by the classes of a split, {in_groups:,} by its row groups, but "
            f"{split.rows_taken:,} are stated"
        )
