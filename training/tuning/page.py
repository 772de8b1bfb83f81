"""Report of a study: its winner, its history, how far trials went, which keys mattered, and a slice along each."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from common import files
from common.errors import DataError
from common.pages import charts
from common.pages.page import (
    Block,
    Cell,
    Chart,
    Code,
    Page,
    ReportSection,
    Table,
    Text,
    Tile,
    Value,
    figure,
    render,
)
from common.wording import counted
from training.reporting.comparisons import shown_name
from training.tracking.run_files import REPORT_FILE
from training.tuning import space
from training.tuning.study import Study
from training.tuning.trials import Setting

STATES: Mapping[TrialState, str] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "ended early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
SHOWN = (TrialState.COMPLETE, TrialState.PRUNED)
BREAK = (math.nan, math.nan)
"""Point between the curves of two trials, which are one series."""


def write(study: Study, setting: Setting, facts: Mapping[str, str], winner: Sequence[str]) -> Path:
    """Write the report to the study's folder; `facts` and `winner` are those of the winner's configuration.

    Raises DataError where it cannot be written.
    """
    path = study.folder / REPORT_FILE
    try:
        files.write(path, render(page_of(study, setting, facts, winner)).encode())
    except OSError as error:
        raise DataError(f"the report {path} cannot be written: {files.told(error)}") from error
    return path


def page_of(study: Study, setting: Setting, facts: Mapping[str, str], winner: Sequence[str]) -> Page:
    """Build the page; equal studies give equal pages."""
    trials, name = study.trials(), shown_name(setting.metric)
    done, whole = epochs(trials)
    complete = [one for one in trials if one.state is TrialState.COMPLETE]
    best = study.winner()
    counts = {said: sum(one.state is state for one in trials) for state, said in STATES.items()}
    tiles = [
        Tile(f"Best validation {name}", figure(None if best is None else best.value).text),
        Tile("Trials", f"{len(trials):,}", ", ".join(f"{n} {said}" for said, n in counts.items() if n)),
        Tile("Epochs trained", f"{done:,}", f"of {whole:,} that the same trials have in full"),
    ]
    told = [["--set", one] for one in winner]
    sections = [
        ReportSection(
            "Winner",
            [
                Table(
                    ["", ""],
                    [[key, Cell(text, "code")] for key, text in facts.items() if key != "train it again"],
                ),
                Table(["key", "value"], [list(one.split("=", 1)) for _, one in told]),
                Code(facts["train it again"]),
                Text("Judged by the validation split alone: the search has not touched the test split."),
            ],
        ),
        ReportSection("History", _history(study, trials, name)),
        ReportSection("Importance", _importance(study, complete)),
        ReportSection("Slices", _slices(study, trials, name)),
        ReportSection("Trials", [_table(study, trials)]),
    ]
    subtitle = f"A search of {study.settings.sampler} and {study.settings.pruner}, seed {study.settings.seed}"
    return Page(f"Study {study.name}", subtitle, tiles, sections, "Made by ringlake.")


def epochs(trials: Sequence[FrozenTrial]) -> tuple[int, int]:
    """Return the epochs that trials have trained, and those that they would have without ending any early."""
    ended = [one for one in trials if one.state in SHOWN]
    done = sum(one.user_attrs["epochs"] for one in ended)
    kept = sum(one.user_attrs["epochs"] for one in ended if one.state is TrialState.COMPLETE)
    cut = sum(one.user_attrs["epochs_configured"] for one in ended if one.state is TrialState.PRUNED)
    return done, kept + cut


def _history(study: Study, trials: Sequence[FrozenTrial], name: str) -> list[Block]:
    maximises = study.study.direction is optuna.study.StudyDirection.MAXIMIZE
    best: list[tuple[float, float]] = []
    for one in trials:
        if one.state is TrialState.COMPLETE and one.value is not None:
            before = [] if not best else [best[-1][1]]
            best.append((one.number, (max if maximises else min)([*before, one.value])))
    values = {"trial": _points(trials, TrialState.COMPLETE, lambda one: one.number), "best so far": best}
    curves = {
        STATES[state]: [
            point
            for one in trials
            if one.state is state and one.intermediate_values
            for point in [*sorted(one.intermediate_values.items()), BREAK]
        ]
        for state in SHOWN
    }
    curves = {said: found for said, found in curves.items() if found}
    return [
        Chart(
            charts.points("Complete trials", values, "trial", name), "Each trial's best checkpoint, in order."
        ),
        Chart(
            charts.lines("Validations", curves, "epoch", name),
            "Of each trial after each epoch, up to where it was ended.",
        ),
    ]


def _importance(study: Study, complete: Sequence[FrozenTrial]) -> list[Block]:
    keys = [key for key in study.settings.space if len({repr(one.params[key]) for one in complete}) > 1]
    if len({one.value for one in complete}) < 2 or not keys:
        return [Text("Too few complete trials with different values to tell.", "quiet")]
    found = optuna.importance.get_param_importances(study.study, params=keys)
    shown = {key: value for key, value in found.items() if math.isfinite(value)}
    svg = charts.bars("Importance", {"share": list(shown.values())}, list(shown), "", "share")
    caption = (
        "Share of the variance among the better complete trials that each key explains (PED-ANOVA, Watanabe et al. "
        "2023): of few trials it is a hint."
    )
    return [Chart(svg, caption, wide=True)]


def _slices(study: Study, trials: Sequence[FrozenTrial], name: str) -> list[Block]:
    found: list[Block] = []
    for key, dimension in study.settings.space.items():
        listed = None if dimension.values is None else space.choices(dimension)

        def place(one: FrozenTrial, key: str = key, listed: list[Any] | None = listed) -> float:
            return float(one.params[key] if listed is None else listed.index(one.params[key]))

        series = {STATES[state]: _points(trials, state, place) for state in SHOWN}
        labels = None if listed is None else [str(one) for one in listed]
        svg = charts.points(key, {k: v for k, v in series.items() if v}, key, name, dimension.log, labels)
        found.append(Chart(svg, "Trials that were ended early stand at their last validation."))
    return found


def _points(trials: Sequence[FrozenTrial], state: TrialState, place: Any) -> list[tuple[float, float]]:
    return [(place(one), one.value) for one in trials if one.state is state and one.value is not None]


def _table(study: Study, trials: Sequence[FrozenTrial]) -> Table:
    keys = list(study.settings.space)
    rows: list[list[Value]] = []
    for one in trials:
        attributes = one.user_attrs
        rows.append(
            [
                one.number,
                STATES.get(one.state, "waiting"),
                figure(one.value),
                Cell(f"{attributes.get('epochs', 0)}", number=True),
                *(Cell(_shown(one.params.get(key)), number=True) for key in keys),
                Cell(attributes.get("configuration_sha256", "")[:16], "code"),
                Cell(attributes.get("error", ""), "code"),  # a column of its words would be one word wide
            ]
        )
    header = ["trial", "", "value", "epochs", *keys, "configuration", "message"]
    said = f"{counted(len(trials), 'trial')}; their runs are {study.name}-trial-0000 and so on."
    return Table(header, rows, said)


def _shown(value: Any) -> str:
    return (
        f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    )
