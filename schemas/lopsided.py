"""Remarks on small and lopsided data: splits without rows, shares that cannot be kept, classes that a split lacks."""

from collections.abc import Mapping

from schemas.kept_tokens import KeptTokens
from schemas.manifest import Content, Manifest
from schemas.tables import SPLITS

TOLERANCE = 0.02
"""Share of all rows by which a split may differ from its configured share without a remark, but always one row."""
NAMED = 5
LONGEST_NAME = 40
CONSEQUENCES = {
    "train": "there is nothing to train on",
    "validation": "training takes its last checkpoint for the best, and train.patience cannot be used",
    "test": "no model can be judged on it",
}


def of_splits(rows: Mapping[str, int], shares: Mapping[str, float]) -> list[str]:
    """Return a sentence for each split without rows, and one where splits differ from their configured shares.

    Only splits with a share are expected to have rows.
    """
    total = sum(rows.values())
    counts = {split: rows.get(split, 0) for split in SPLITS}
    found = [
        f"the {split} split has no rows: {CONSEQUENCES[split]}"
        for split, count in counts.items()
        if not count and (shares[split] or split == "train")
    ]
    if any(abs(counts[split] - shares[split] * total) > max(1, TOLERANCE * total) for split in SPLITS):
        are = ", ".join(f"{split} {count / total:.1%}" for split, count in counts.items())
        were = ", ".join(f"{shares[split]:.1%}" for split in SPLITS)
        found.append(
            f"the splits do not have their shares of the rows, but {are} instead of {were}, as where "
            "large clusters of near-duplicates or groups, which are never divided, leave no choice"
        )
    return found


def of_classes(by_split: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a sentence where there is one class alone, and where a split lacks classes.

    `by_split`: rows by split, then by class.
    """
    there = sorted({name for counts in by_split.values() for name, rows in counts.items() if rows})
    if len(there) == 1:
        return [f"all rows are of the class {_named(there)}: there is nothing to tell apart"]
    found = []
    for split, consequence in (
        ("train", "no model can learn them"),
        ("test", "nothing tells how well they are recognised"),
    ):
        counts = by_split.get(split, {})
        lacking = [name for name in there if not counts.get(name)]
        if lacking and any(counts.values()):
            if len(lacking) == 1:
                consequence = consequence.replace("them", "it").replace("they are", "it is")
            have = "has" if len(lacking) == 1 else "have"
            found.append(
                f"{len(lacking):,} of {len(there):,} classes {have} no row in the {split} split "
                f"({_named(lacking)}): {consequence}"
            )
    return found


def of_tokens(kept: Mapping[str, KeptTokens]) -> list[str]:
    """Return a sentence for each feature of text of which more than a tenth of the tokens is cut away."""
    return [
        f"much of the texts is cut away: in the feature `{feature}`, {one.told}"
        for feature, one in kept.items()
        if one.heavily_cut
    ]


def of_manifest(manifest: Manifest) -> list[str]:
    """Return the remarks on a published version, and on what its texts lack."""
    return [*of_content(manifest.content), *of_tokens(manifest.provenance.kept_tokens)]


def of_content(content: Content) -> list[str]:
    """Return the remarks on the content of a version."""
    rows = {name: split.records for name, split in content.splits.items()}
    counts = {name: split.label_counts for name, split in content.splits.items()}
    return [*of_splits(rows, content.configuration["split"]), *of_classes(counts)]


def _named(names: list[str]) -> str:
    shown = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in names[:NAMED]]
    return ", ".join([*shown, "…"] if len(names) > NAMED else shown)
