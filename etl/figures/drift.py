"""Drift of a version from the previous one: the profile kept of each version, and the distances between two.

A profile holds counts alone, as `quality/profiles/<root>.json`. Class mix, lengths and outcomes are compared by the
population stability index (N. Siddiqi, Credit Risk Scorecards, Wiley 2006), the many rare words of the vocabulary by
the Jensen–Shannon divergence (J. Lin, IEEE Transactions on Information Theory 37, 1991), which needs no smoothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from common import storage
from common.errors import DataError
from etl.figures.columns import shares_before_and_now
from etl.figures.facts import Distribution, Drift, Summary
from schemas.config import Configuration
from schemas.manifest import Manifest, name_of, published
from schemas.tables import EXPIRED, SPLITS, Layout

Category = TypeVar("Category", str, int)
CLASSES, LENGTHS, VOCABULARY, OUTCOMES = "classes", "lengths", "vocabulary", "outcomes"
COLUMNS = "columns"
MODERATE, LARGE = 0.1, 0.25
"""Common thresholds of the index: below the first the shift is negligible, above the second it is large."""


class Profile(BaseModel):
    """Profile of a version: numbers of records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, int]
    """Published records by class."""
    lengths: dict[str, dict[int, int]]
    """Published records by column, then by bin: k for 2^k to 2^(k+1) characters; -1 for none."""
    columns: dict[str, Distribution] = {}
    """Distributions by typed feature; profiles of earlier versions have none."""
    words: dict[str, int]
    """Sampled records by word (etl/figures/vocabulary.py)."""
    outcomes: dict[str, int] = Field(validation_alias=AliasChoices("outcomes", "fates"))
    """Records read, except erased ones, by outcome; earlier versions wrote them as `fates`."""

    @classmethod
    def of(cls, summary: Summary) -> "Profile":
        """Create the profile from the figures of the report."""
        classes: dict[str, int] = {}
        for split in SPLITS:
            for label, count in summary.classes.get(split, {}).items():
                classes[label] = classes.get(label, 0) + count
        outcomes = {
            "quarantined": summary.quarantined - summary.forgotten,
            **{f"filtered by {rule}": count for rule, count in summary.filtered_by_rule.items()},
            "exact duplicate": summary.exact_duplicates,
            "near-duplicate": summary.near_duplicates,
            "published": summary.published_rows,
        }
        lengths = {column: dict(stages["published"].bins) for column, stages in summary.characters.items()}
        return cls(
            classes=classes,
            lengths=lengths,
            columns=dict(summary.distributions),
            words=dict(summary.words),
            outcomes=outcomes,
        )


@dataclass(frozen=True)
class EarlierProfile:
    """Profile of an earlier version."""

    version: int
    profile: Profile


def population_stability(before: Mapping[Category, int], now: Mapping[Category, int]) -> float | None:
    """Return Σ (q - p) ln(q / p) over all categories, p and q their shares before and now; None where either is
    empty.

    Half a record is added to every category, so that a category that appears or vanishes is a large distance and not
    an infinite one.
    """
    if not sum(before.values()) or not sum(now.values()):
        return None
    names = before.keys() | now.keys()
    whole_before = sum(before.values()) + len(names) / 2
    whole_now = sum(now.values()) + len(names) / 2
    distance = 0.0
    for name in sorted(names, key=str):
        p = (before.get(name, 0) + 0.5) / whole_before
        q = (now.get(name, 0) + 0.5) / whole_now
        distance += (q - p) * math.log(q / p)
    return distance


def column_drift(before: Profile, now: Profile) -> dict[str, float]:
    """Return the index of each typed feature, over the bins of the version before, missing values among them."""
    found = {}
    for name in before.columns.keys() & now.columns.keys():
        moved = population_stability(*shares_before_and_now(before.columns[name], now.columns[name]))
        if moved is not None:
            found[name] = moved
    return dict(sorted(found.items()))


def jensen_shannon(before: Mapping[str, int], now: Mapping[str, int]) -> float | None:
    """Return the divergence in bits, from 0 (the same shares) to 1 (nothing in common); None where either is empty."""
    parts = divergence_by_word(before, now)
    return None if parts is None else min(1.0, max(0.0, math.fsum(parts.values())))


def divergence_by_word(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, float] | None:
    """Return the contribution of each word to the divergence."""
    whole_before, whole_now = sum(before.values()), sum(now.values())
    if not whole_before or not whole_now:
        return None
    parts = {}
    for name in sorted(before.keys() | now.keys()):
        p, q = before.get(name, 0) / whole_before, now.get(name, 0) / whole_now
        middle = (p + q) / 2
        parts[name] = sum(share / 2 * math.log2(share / middle) for share in (p, q) if share)
    return parts


def drifts(before: Profile, now: Profile) -> list[Drift]:
    """Return the distances, for lengths and typed columns that of the one that moved most.

    What cannot be compared is left out.
    """
    columns = {
        column: population_stability(before.lengths[column], now.lengths[column])
        for column in before.lengths.keys() & now.lengths.keys()
    }
    compared = {column: value for column, value in columns.items() if value is not None}
    found = {
        CLASSES: population_stability(before.classes, now.classes),
        LENGTHS: max(compared.values(), default=None),
        VOCABULARY: jensen_shannon(before.words, now.words),
        COLUMNS: max(column_drift(before, now).values(), default=None),
        OUTCOMES: population_stability(before.outcomes, now.outcomes),
    }
    return [Drift(measure, value) for measure, value in found.items() if value is not None]


def with_drifts(summary: Summary, before: EarlierProfile | None) -> Summary:
    """Return the figures with the distances from an earlier version, none where there is no such version."""
    if before is None:
        return summary
    return replace(summary, drifts=drifts(before.profile, Profile.of(summary)))


def keep_profile(summary: Summary, manifest: Manifest, config: Configuration) -> None:
    """Keep the profile of a published version, and of every other with the same content."""
    content = Profile.of(summary).model_dump_json(indent=1).encode() + b"\n"
    location = _location(config, name_of(manifest.delta_version, manifest.manifest_root))
    storage.write_bytes(location, content, config.storage)


def remove_profiles(
    gone: Sequence[str], kept: Sequence[Manifest], config: Configuration, dry_run: bool = False
) -> int:
    """Delete the profiles that only expired versions have; return their number.

    `gone`: the locations of the expired versions' manifests.
    """
    stay = {_location(config, name_of(m.delta_version, m.manifest_root)) for m in kept}
    there = {_location(config, location.rsplit("/", 1)[-1]) for location in gone} - stay
    found = [location for location in sorted(there) if storage.exists(location, config.storage)]
    for location in found if not dry_run else ():
        file_system, path = storage.filesystem(location, config.storage)
        file_system.rm(path)
    return len(found)


def profile_before(
    config: Configuration, manifest: Manifest | None, same: Profile | None = None
) -> EarlierProfile | None:
    """Return the profile of the newest earlier version (of all, before a publication) with another content.

    Where the root is not known yet, versions with the profile `same` count as of the same content. None where there
    is no such version, or it was published before profiles were kept. Raises DataError for a damaged one.
    """
    layout = Layout.of(config)
    places = {
        **published(storage.join(layout.manifests, EXPIRED), config.storage),
        **published(layout.manifests, config.storage),
    }
    for version in sorted(places, reverse=True):
        name = places[version].rsplit("/", 1)[-1]
        if manifest is not None and (
            version >= manifest.delta_version or name == name_of(version, manifest.manifest_root)
        ):
            continue
        location = _location(config, name)
        if not storage.exists(location, config.storage):
            return None
        try:
            profile = Profile.model_validate_json(storage.read_bytes(location, config.storage))
        except ValidationError as error:
            raise DataError(
                f"{location} is damaged: remove it, and nothing is compared with that version"
            ) from error
        if profile != same:
            return EarlierProfile(version, profile)
    return None


def _location(config: Configuration, name: str) -> str:
    """Return the location of a manifest's profile: by the root alone, which a rollback keeps."""
    return storage.join(Layout.of(config).quality, "profiles", name.split("-", 1)[1])
