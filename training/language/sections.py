"""Sections of the run report for a language model."""

from typing import Any

from common.pages.page import Block, Cell, Folded, ReportSection, Table, Text, Value, figure, number, share
from common.wording import counted
from schemas.manifest import Manifest
from schemas.tables import SPLITS
from training.reporting import comparisons
from training.reporting.sections import Evaluation, not_evaluated

FIGURES = {
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "bleu": "BLEU (0 to 100)",
    "rouge_l": "ROUGE-L",
    "verbatim_share": "Verbatim share",
}
MEANING = (
    "Perplexity is over all tokens, separators included; bits per byte are over the bytes of the cleaned texts, with "
    "the bits of the separators. BLEU and ROUGE-L compare continuations of held-back beginnings with how the texts go "
    "on; the verbatim share is that of their runs of words that the training split has as well. Of perplexity, bits "
    "and the verbatim share the lower is the better. The rows that are compared are documents."
)
SHOWN, FOLDED = 4, 50


def sections(manifest: Manifest, evaluation: Evaluation | None) -> list[ReportSection]:
    """Return the figures against the baseline, sample continuations, and how the rows are packed."""
    against = [] if evaluation is None else continuations(evaluation)
    return [against_baseline(manifest, evaluation), *against, packing(manifest)]


def against_baseline(manifest: Manifest, evaluation: Evaluation | None) -> ReportSection:
    """Show the model and the n-gram model side by side, whichever is better, and what is chance."""
    title = "Test split, model and baseline"
    if evaluation is None:
        return ReportSection(title, [not_evaluated(manifest)])
    model, baseline = evaluation["model"], evaluation["baselines"].get("ngram")
    names = {name: heading for name, heading in FIGURES.items() if name in model["figures"]}
    blocks: list[Block] = []
    if baseline is None:
        blocks.append(Text("No baseline was trained: `evaluate.baseline` is false.", "quiet"))
    else:
        tested = (baseline.get("comparison") or {}).get("figures", {})
        blocks += comparisons.verdict(
            baseline, "the n-gram model", [name for name in names if name in tested]
        )
    blocks.append(comparisons.table(model, {} if baseline is None else {"Baseline": baseline}, names))
    blocks.append(Text(MEANING, "quiet"))
    if baseline is not None:
        details = baseline["details"]
        told = (
            f"The baseline: n-grams of up to {counted(details['order'], 'token')}, with modified Kneser-Ney smoothing, "
            f"from {details['learned_tokens']:,} tokens of the training split."
        )
        blocks.append(Text(told, "quiet"))
    return ReportSection(title, blocks)


def continuations(evaluation: Evaluation) -> list[ReportSection]:
    """Show how texts of the test split go on, beside what the model and the baseline write."""
    details = evaluation["model"]["details"]
    if not details.get("continuations"):
        return []
    others = (evaluation["baselines"].get("ngram") or {"details": {}})["details"].get("continuations")
    header = ["Beginning", "The text itself", "Model", *(["Baseline"] if others else [])]
    rows: list[list[Value]] = []
    for place, one in enumerate(details["continuations"][:FOLDED]):
        texts = [one["prompt"], one["truth"], one["text"], *([others[place]["text"]] if others else [])]
        rows.append([Cell(text) for text in texts])
    of_truth = f"{100 * details['verbatim_share_of_truth']:.1f}%"
    caption = (
        f"Of {counted(len(details['continuations']), 'continuation')} the first, each the likeliest token after token. "
        f"Of the true continuations' own runs of words, {of_truth} stand in the training split."
    )
    blocks: list[Block] = [Table(header, rows[:SHOWN], caption)]
    if len(rows) > SHOWN:
        blocks.append(Folded(f"{len(rows) - SHOWN} more continuations", [Table(header, rows[SHOWN:])]))
    return [ReportSection("Continuations", blocks)]


def packing(manifest: Manifest) -> ReportSection:
    """Show what the packed rows of each split hold."""
    rows: list[list[Value]] = []
    for split in SPLITS:
        packed: Any = manifest.splits[split].packing
        if packed is not None:
            filled = packed.tokens + packed.records
            cells = (packed.records, packed.tokens, manifest.splits[split].rows, packed.padding)
            rows.append([split, *map(number, cells), share(packed.padding, filled + packed.padding)])
            rows[-1].append(figure(packed.text_bytes / max(1, packed.tokens), 2))
    header = ["Split", "Documents", "Tokens", "Rows", "Padding", "Share", "Bytes a token"]
    return ReportSection("Packed rows", [Table(header, rows)])
