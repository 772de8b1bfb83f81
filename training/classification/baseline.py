"""The linear baseline: logistic regression on hashed word 1- and 2-grams of the full cleaned texts.

Of a data set without texts it learns from the features of the shards instead: numbers, codes, pixels.

Words are those that duplicates are compared by (common/words.py): in scripts without white space single characters.
It sees exactly the rows of the published shards: their record ids are read from the shards, their texts from
`silver/fields` at the version that the manifest names. It is a softmax regression over all classes, fitted with SAGA
(Defazio, Bach and Lacoste-Julien 2014) from a fixed seed. On 22,000 texts a candidate takes 6 to 11 CPU seconds;
one-vs-rest regressions take 30 and are weaker (accuracy 0.814 instead of 0.821 on the demo's data). The regularisation
strength is chosen on the validation split; the candidates are fitted side by side.
"""

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import joblib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from common import storage
from common.errors import DataError
from common.progress import Progress
from common.words import words
from provenance.keys import record_keys
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.classification.scores import Indices, Scores, row_results, scores
from training.comparison.assessment import RowResults
from training.input import whole_split
from training.input.class_balance import repeats_of
from training.input.columns import is_image
from training.input.shards import read_row_groups

ITERATIONS = 200
"""Maximum of passes over the data; 30 to 100 are usual."""
TOLERANCE = 1e-3
"""Convergence threshold: the largest change of a weight in a pass, relative to the largest weight."""
SPLITS = ("train", "validation", "test")
HASHED_TEXTS = "hashed word 1- and 2-grams of the full cleaned texts"


@dataclass(frozen=True)
class Baseline:
    """Scores on the test split, and how the regression was fitted."""

    test: Scores
    results: RowResults
    """Predictions on the test split, row by row."""
    regularisation: float
    chosen_on: str
    """`validation`, or `train` where that split has no rows."""
    candidate_accuracy: dict[str, float]
    """Accuracy of each candidate of `evaluate.regularisation` there."""
    converged: bool
    learned_from: str
    """What its features are, in words."""


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a split in the order of its shards."""

    record_ids: list[str]
    labels: npt.NDArray[np.int64]


def evaluate_baseline(manifest: Manifest, config: Configuration, classes: Sequence[str]) -> Baseline:
    """Train on the training split, choose on the validation split, and evaluate on the test split.

    The training split has at least two classes. Raises DataError if the texts of some rows no longer exist.
    """
    keys, labels, matrices, learned_from = features(manifest, config)
    # Without a validation split the training split decides, which is better than the test split.
    chooser = "validation" if len(labels["validation"]) else "train"
    candidates, accuracy = list(config.evaluate.regularisation), {}
    with _alive(Progress("baseline", len(candidates), "regressions")) as progress:

        def fitted(strength: float) -> tuple[LogisticRegression, bool]:
            found = fit(matrices["train"], labels["train"], strength)
            progress.update(1)
            return found

        # Threads, because SAGA runs without Python's lock; processes would copy the matrix.
        threads = joblib.Parallel(n_jobs=len(os.sched_getaffinity(0)), prefer="threads")
        models = threads(joblib.delayed(fitted)(strength) for strength in candidates)
    for strength, (model, _) in zip(candidates, models, strict=True):
        right = model.predict(matrices[chooser]) == labels[chooser]
        accuracy[f"{strength:g}"] = float(right.mean())
    best = max(range(len(candidates)), key=lambda i: accuracy[f"{candidates[i]:g}"])
    model, converged = models[best]
    test = labels["test"]
    predicted = model.predict(matrices["test"]) if len(test) else test
    results = row_results(keys, test, predicted, len(classes))
    judged = scores(test, predicted, classes)
    return Baseline(judged, results, candidates[best], chooser, accuracy, converged, learned_from)


Matrix: TypeAlias = Any
"""(rows, features): a sparse matrix of scipy or an array, float32."""


def features(
    manifest: Manifest, config: Configuration
) -> tuple[npt.NDArray[np.uint64], dict[str, Indices], dict[str, Matrix], str]:
    """Return the keys of the test rows, labels and features of each split, and what the features are.

    Of the training split they are those of the rows that training takes.
    """
    if config.text_columns():
        rows = {split: read_labelled_rows(manifest, split, config) for split in SPLITS}
        labels = {split: each.labels for split, each in rows.items()}
        texts: dict[str, Matrix] = dict(hashed_texts(manifest, config, rows))
        if (repeats := repeats_of(manifest, "train", config.storage)) is not None:
            taken_rows = np.flatnonzero(repeats[labels["train"]] > 0)
            labels["train"], texts["train"] = labels["train"][taken_rows], texts["train"][taken_rows]
        return record_keys(rows["test"].record_ids), labels, texts, HASHED_TEXTS
    columns = [column for column in manifest.content.columns if column.role == "feature"]
    read = {split: whole_split.read_rows(manifest, split, config.storage) for split in SPLITS}
    taken = {
        split: each.taken if split == "train" else np.ones_like(each.taken) for split, each in read.items()
    }
    labels = {split: _labels(each)[taken[split]] for split, each in read.items()}
    parts: dict[str, list[Matrix]] = {split: [] for split in SPLITS}
    for column in columns:
        found = {split: each.matrix([column])[taken[split]] for split, each in read.items()}
        mean = found["train"].mean(axis=0, dtype=np.float64)
        scale = found["train"].std(axis=0, dtype=np.float64)
        if is_image(column):
            # Pixels near the border are mostly of one level: on their own scale the few others would count too much.
            scale = np.maximum(scale, scale.mean())
        scale = np.where(scale > 0, scale, 1)
        for split, matrix in found.items():
            parts[split].append(((matrix - mean) / scale).astype(np.float32))
    scaled = {split: np.concatenate(each, axis=1) for split, each in parts.items()}
    return read["test"].keys, labels, scaled, "the features of the shards, as the model has them"


def _labels(rows: whole_split.Rows) -> Indices:
    assert rows.labels is not None  # the objective needs them
    return rows.labels


def fit(matrix: Matrix, labels: Indices, strength: float) -> tuple[LogisticRegression, bool]:
    """Return the regression, and whether it converged; `strength` is the inverse of the regularisation, C."""
    # SAGA suits many sparse features; on few dense ones, such as pixels, L-BFGS takes a tenth of its time.
    solver = "saga" if sparse.issparse(matrix) else "lbfgs"
    model = LogisticRegression(C=strength, solver=solver, tol=TOLERANCE, max_iter=ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the return value reports it
        model.fit(matrix, labels)
    return model, int(np.max(model.n_iter_)) < ITERATIONS


def read_labelled_rows(manifest: Manifest, split: str, config: Configuration) -> LabelledRows:
    """Read the record ids and labels of a split from its shards."""
    columns = [manifest.column("id"), manifest.column("label")]
    ids: list[str] = []
    labels: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for table, _ in read_row_groups(manifest, split, columns, config.storage):
        ids += table[columns[0].name].to_pylist()
        labels.append(np.asarray(table[columns[1].name], dtype=np.int64))
    return LabelledRows(ids, np.concatenate(labels))


def hashed_texts(
    manifest: Manifest, config: Configuration, rows: dict[str, LabelledRows]
) -> dict[str, sparse.csr_matrix]:
    """Return for each split a (rows, hashed_features) float32 matrix in the order of its rows.

    The texts are hashed batch by batch while they are read, so that they are never all in memory. Raises DataError if a
    row has no text, or two.
    """
    column = config.text_columns()[0]
    vectorizer = HashingVectorizer(
        n_features=config.evaluate.hashed_features,
        tokenizer=words,
        token_pattern=None,
        lowercase=False,  # `words` folds case
        ngram_range=(1, 2),
        alternate_sign=False,
        dtype=np.float32,
    )
    order = {
        record_id: place
        for place, record_id in enumerate(r for split in SPLITS for r in rows[split].record_ids)
    }
    places: list[int] = []
    parts: list[Any] = [sparse.csr_matrix((0, config.evaluate.hashed_features), dtype=np.float32)]
    with Progress("hashing texts", len(order), "texts") as progress:
        for ids, texts in _texts(manifest, config, column):
            wanted = [i for i, record_id in enumerate(ids) if record_id in order]
            if wanted:
                parts.append(vectorizer.transform([texts[i] or "" for i in wanted]))
                places += [order[ids[i]] for i in wanted]
            progress.update(len(wanted))
    if sorted(places) != list(range(len(order))):
        raise DataError(
            f"silver/fields has the texts of {len(set(places)):,} of the {len(order):,} published rows, "
            f"{len(places) - len(set(places)):,} of them more than once; publish the data set again"
        )
    whole = sparse.vstack(parts, format="csr")[np.argsort(np.asarray(places, dtype=np.int64))]
    matrices, first = {}, 0
    for split in SPLITS:
        last = first + len(rows[split].record_ids)
        matrices[split] = whole[first:last]
        first = last
    return matrices


def _texts(
    manifest: Manifest, config: Configuration, column: str
) -> Iterator[tuple[list[str], list[str | None]]]:
    """Yield batches of record ids and texts from silver/fields, at the version that was published."""
    uri = storage.join(manifest.dataset_uri, "silver", "fields")
    version = manifest.provenance.silver_versions.get("fields")
    remedy = "publish the data set again, or leave the baseline out with --set evaluate.baseline=false"
    if version is None:
        raise DataError(f"the manifest does not say which version of {uri} it was made from; {remedy}")
    try:
        table = DeltaTable(uri, version=version, storage_options=storage.delta_options(config.storage))
        for batch in table.to_pyarrow_dataset().to_batches(columns=["record_id", column], batch_size=4096):
            yield batch["record_id"].to_pylist(), batch[column].to_pylist()
    except (TableNotFoundError, DeltaError, FileNotFoundError, pa.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"version {version} of {uri} cannot be read ({first}); {remedy}") from error


@contextmanager
def _alive(progress: Progress) -> Iterator[Progress]:
    """Show a sign of life every few seconds, because a regression does not report its progress."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(1.0):
            progress.update(0)

    ticker = threading.Thread(target=tick, daemon=True)
    with progress:
        ticker.start()
        try:
            yield progress
        finally:
            ended.set()
            ticker.join()
