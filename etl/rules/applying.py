"""Application of the active rules to batches of records, with a log of their effects."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.normalisers import ColumnNormaliser
from etl.rules.personal_data import DropPersonalData, PersonalData, effect_of
from etl.rules.registry import Edit, Filter, build_rules
from etl.rules.signs import Signs
from etl.spark.arrow_batches import parts_of
from etl.spark.sampled_words import words_of
from schemas import tables
from schemas.config import Configuration

PART_BYTES = 1 << 20  # size of the text processed at a time: it stays in the processor's caches


ADDED = ("filtered_by", "effects", "text_characters_read", "text_characters", "sampled_words")
"""Columns of silver/fields that bronze/records does not have."""


class CleanTexts:
    """Function for `mapInArrow`: cleans the text columns of each batch and appends the effects."""

    def __init__(self, config: Configuration, key: bytes | None = None) -> None:
        self.config = config
        # It goes to the executors with this function, and never into a configuration, table or log.
        self.key = key
        self.schema = tables.fields_schema(config)

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rules = RuleSet(self.config, self.key)
        typed = [ColumnNormaliser(feature) for feature in self.config.typed_features()]
        for batch in batches:
            for part in parts_of(batch, self.config.text_columns(), PART_BYTES):
                yield self._cleaned(part, rules, typed)

    def _cleaned(
        self, batch: pa.RecordBatch, rules: "RuleSet", typed: Sequence[ColumnNormaliser]
    ) -> pa.RecordBatch:
        columns = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
        texts = {name: columns[name] for name in self.config.text_columns()}
        images = columns.pop("image_effects", None)
        columns["text_characters_read"] = lengths_of(list(texts.values()), len(batch))
        may = rules.may_concern(list(texts.values()), len(batch))
        rows = np.flatnonzero(may.any(axis=0))
        filtered_by: list[str | None] = [None] * len(batch)
        effects: list[dict[str, object]] = []
        done = np.zeros(len(batch), dtype=np.int32)
        # Without texts, no rule concerns any row.
        of_rows = zip(*(column.take(pa.array(rows)).to_pylist() for column in texts.values()), strict=True)
        cleaned = []
        for row, before, here in zip(rows.tolist(), of_rows, may.T[rows].tolist(), strict=True):
            after, filtered_by[row], of_row = rules.apply(before, here)
            cleaned.append(after)
            effects += of_row
            done[row] = len(of_row)
        concerned = np.zeros(len(batch), dtype=bool)
        concerned[rows] = True
        for place, (name, column) in enumerate(texts.items()):
            values = pa.array([after[place] for after in cleaned], pa.string())
            columns[name] = pc.replace_with_mask(column, pa.array(concerned), values)
        after_all = [columns[name] for name in texts]
        columns["text_characters"] = lengths_of(after_all, len(batch))
        columns["sampled_words"] = words_of_rows(after_all, columns["sampled_words"])
        if typed or images is not None:
            by_row = rows_with(effects, done)
            for row, of_image in enumerate([] if images is None else images.to_pylist()):
                by_row[row] += [{"rule": name, "count": 1} for name in of_image]
            for normaliser in typed:
                normalise(normaliser, columns, filtered_by, by_row)
            effects = [effect for row in by_row for effect in row]
            done = np.array([len(row) for row in by_row], dtype=np.int32)
        columns["filtered_by"] = pa.array(filtered_by, pa.string())
        effect = self.schema.field("effects").type.value_type
        offsets = np.concatenate(([0], np.cumsum(done, dtype=np.int32))).astype(np.int32)
        columns["effects"] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(effects, effect)).cast(
            self.schema.field("effects").type
        )
        return pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)


def lengths_of(texts: Sequence[pa.StringArray], rows: int) -> pa.ListArray:
    """Return the characters of each text of n rows, list<int32> (n)."""
    values = np.zeros((rows, len(texts)), dtype=np.int32)
    for place, column in enumerate(texts):
        values[:, place] = pc.utf8_length(column).to_numpy()
    offsets = np.arange(rows + 1, dtype=np.int32) * len(texts)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def words_of_rows(texts: Sequence[pa.StringArray], sampled: pa.BooleanArray) -> pa.ListArray:
    """Return the words of the sampled rows among n, list<string> (n); null for the others."""
    rows = np.flatnonzero(sampled.to_numpy(zero_copy_only=False))
    found: list[list[str] | None] = [None] * len(sampled)
    columns = [column.take(pa.array(rows)).to_pylist() for column in texts]
    for place, row in enumerate(rows.tolist()):
        found[row] = words_of([column[place] for column in columns])
    return pa.array(found, pa.list_(pa.string()))


def rows_with(
    effects: Sequence[dict[str, object]], done: npt.NDArray[np.int32]
) -> list[list[dict[str, object]]]:
    """Return the effects by row, from the concatenated effects of all rows and the number of each."""
    ends = np.cumsum(done).tolist()
    return [list(effects[end - count : end]) for end, count in zip(ends, done.tolist(), strict=True)]


def normalise(
    normaliser: ColumnNormaliser,
    columns: dict[str, pa.Array],
    filtered_by: list[str | None],
    effects: list[list[dict[str, object]]],
) -> None:
    """Bring a typed column into one notation; record the effects on each row, and the rows to leave out."""
    feature = normaliser.feature
    found = normaliser(columns[feature.column])
    columns[feature.column] = found.values
    lost = found.missing | (found.invalid if feature.invalid == "missing" else False)
    dropped = {
        "invalid": found.invalid if feature.invalid == "drop" else np.zeros(len(lost), dtype=bool),
        "missing": lost if feature.missing == "drop" else np.zeros(len(lost), dtype=bool),  # type: ignore[attr-defined]
    }
    for what, rows in (("normalised", found.changed), ("invalid", found.invalid), ("missing", lost)):
        name = f"{feature.name}.{what}"
        for row in np.flatnonzero(rows).tolist():
            effects[row].append({"rule": name, "count": 1})
            if what in dropped and dropped[what][row]:
                filtered_by[row] = filtered_by[row] or name


def effects_by_kind(rule: str, kinds: Counter[str]) -> list[dict[str, object]]:
    """Return the effects of a rule that finds several kinds, one for each kind."""
    return [{"rule": effect_of(rule, kind), "count": kinds[kind]} for kind in sorted(kinds)]


class RuleSet:
    """Active rules, applied to the texts of one record at a time."""

    def __init__(self, config: Configuration, key: bytes | None = None) -> None:
        self.rules = build_rules(config.clean, key)
        # Asked once, not for every text: an abstract base class takes its time to answer.
        self.steps = [
            (
                name,
                rule.apply if isinstance(rule, Edit) else None,
                rule.noted if isinstance(rule, Edit) and type(rule).noted is not Edit.noted else None,
                rule.drops if isinstance(rule, Filter) else None,
                rule.apply_by_kind if isinstance(rule, PersonalData) and rule.kinds else None,
                rule.count_by_kind if isinstance(rule, DropPersonalData) and rule.finder.kinds else None,
            )
            for name, rule in self.rules
        ]

    def may_concern(self, texts: Sequence[pa.StringArray], rows: int) -> npt.NDArray[np.bool_]:
        """Return which rules may affect which of n records, bool (rules, n), from each of their text columns."""
        may = np.zeros((len(self.rules), rows), dtype=bool)
        for column in texts:
            signs = Signs(column)
            for place, (_, rule) in enumerate(self.rules):
                flags = rule.may_concern(signs)
                may[place] |= True if flags is None else flags
        return may

    def apply(
        self, texts: Sequence[str], may: Sequence[bool] | None = None
    ) -> tuple[list[str], str | None, list[dict[str, object]]]:
        """Return the cleaned texts, the first filter that any of them met, and the effects in the order of the rules.

        Rules for which `may` is False are skipped until one changes a text: it was computed for the original texts.
        """
        now = list(texts)
        filtered_by: str | None = None
        effects: list[dict[str, object]] = []
        for place, (name, edit, noted, drops, by_kind, dropped_by_kind) in enumerate(self.steps):
            if may is not None and not may[place]:
                continue
            count = 0
            if by_kind is not None:
                kinds = Counter[str]()
                for column, text in enumerate(now):
                    now[column], found = by_kind(text)
                    kinds += found
                effects += effects_by_kind(name, kinds)
                may = None if kinds else may
            elif dropped_by_kind is not None:
                kinds = sum(map(dropped_by_kind, now), Counter())
                effects += effects_by_kind(name, kinds)
                count = int(bool(kinds))
                filtered_by = filtered_by or (name if kinds else None)
            elif edit is not None:
                of_note = Counter[str]()
                for column, text in enumerate(now):
                    now[column], replaced = edit(text)
                    count += replaced
                    if replaced and noted is not None and (found_too := noted(text)) is not None:
                        of_note[found_too[0]] += found_too[1]
                effects += effects_by_kind(name, of_note)
                may = None if count else may
            elif drops is not None and any(map(drops, now)):
                count = 1
                filtered_by = filtered_by or name
            if count:
                effects.append({"rule": name, "count": count})
        return now, filtered_by, effects
