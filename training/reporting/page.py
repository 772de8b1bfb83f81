"""The run report as a page, from the files of a run."""

from collections.abc import Sequence
from typing import Any

from common.pages.page import Page
from schemas.manifest import Manifest
from training import objectives
from training.reporting import sections
from training.tracking.non_finite import NonFiniteBatch


def report_page(
    run: str,
    began: dict[str, Any],
    manifest: Manifest,
    results: dict[str, Any],
    entries: Sequence[dict[str, Any]],
    evaluation: dict[str, Any] | None,
    not_finite: Sequence[NonFiniteBatch] = (),
) -> Page:
    """Build the page from run.json, the manifest, summary.json, metrics.jsonl, evaluation.json and non_finite.jsonl.

    Equal files give equal pages. The objective decides how the evaluation is shown.
    """
    if evaluation is not None and evaluation["manifest_root"] != manifest.manifest_root:
        evaluation = None  # from an earlier training in the same folder
    training = results.get("training", {})
    objective = objectives.kind(began["configuration"]["objective"]["kind"])
    shown = [
        *objective.sections(manifest, evaluation),
        sections.curves(entries),
        *sections.non_finite(not_finite),
        sections.lineage(manifest, began, training, evaluation),
        sections.settings(began),
        sections.environment(began),
    ]
    subtitle = f"Trained on {manifest.content.dataset}, manifest root {manifest.manifest_root}"
    return Page(f"Run {run}", subtitle, sections.tiles(training, evaluation), shown, "Made by ringlake.")
