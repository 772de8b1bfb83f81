"""The linear baseline sees exactly the published rows, at the version of silver that the manifest names."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from sklearn.feature_extraction.text import HashingVectorizer

from common.errors import DataError
from schemas import manifest as manifests
from schemas.config import Configuration, load
from schemas.manifest import Manifest
from tests.training.published import CLASSES, Published, publish
from training.classification.baseline import evaluate_baseline, fit, hashed_texts, read_labelled_rows

SPLITS = ("train", "validation", "test")


def with_texts(
    published: Published, extra: int = 7, text: str = "a text of the kind {kind} with the number {number}"
) -> tuple[Manifest, Configuration, dict[str, str]]:
    """Write silver/fields for a published data set, in another order, with records that were not published.

    One word of a row's text tells its class. A later version of the table lacks everything.
    """
    config = load(published.config, ["evaluate.hashed_features=4096"])
    manifest = published.load()
    texts = {f"unpublished-{n}": "nothing to see here" for n in range(extra)}
    for split in SPLITS:
        rows = read_labelled_rows(manifest, split, config)
        for number, (record_id, label) in enumerate(zip(rows.record_ids, rows.labels, strict=True)):
            texts[record_id] = text.format(kind=CLASSES[label], sign="天地人"[label], number=number)
    order = np.random.default_rng(0).permutation(len(texts))
    ids = [list(texts)[place] for place in order]
    table = pa.table({"record_id": ids, "text": [texts[record_id] for record_id in ids]})
    uri = f"{manifest.dataset_uri}/silver/fields"
    write_deltalake(uri, table)
    write_deltalake(uri, table.slice(0, 0), mode="overwrite")
    provenance = manifest.provenance.model_copy(update={"silver_versions": {"fields": 0}})
    sealed = Manifest.seal(manifest.content, provenance, manifest.delta_version, manifest.dataset_uri)
    published.manifest.write_bytes(sealed.to_json())
    return manifests.load(str(published.manifest)), config, texts


def test_the_ids_are_those_of_the_shards_in_their_order(tmp_path: Path) -> None:
    published = publish(tmp_path)
    rows = read_labelled_rows(published.load(), "train", load(published.config))
    assert rows.record_ids == [f"train-0-{n}" for n in range(96)] + [f"train-1-{n}" for n in range(77)]
    expected = published.load().splits["train"].label_counts
    assert {name: int((rows.labels == i).sum()) for i, name in enumerate(CLASSES)} == expected


def test_each_row_has_its_own_text(tmp_path: Path) -> None:
    manifest, config, texts = with_texts(publish(tmp_path))
    rows = {split: read_labelled_rows(manifest, split, config) for split in SPLITS}
    matrices = hashed_texts(manifest, config, rows)
    vectorizer = HashingVectorizer(
        n_features=4096, token_pattern=r"\w+", ngram_range=(1, 2), alternate_sign=False, dtype=np.float32
    )
    for split in SPLITS:
        expected = vectorizer.transform([texts[record_id] for record_id in rows[split].record_ids])
        assert matrices[split].shape == expected.shape
        assert (matrices[split] != expected).nnz == 0


def test_it_learns_what_a_word_tells(tmp_path: Path) -> None:
    manifest, config, _ = with_texts(publish(tmp_path))
    found = evaluate_baseline(manifest, config, CLASSES)
    assert found.test.accuracy == 1.0
    assert found.test.rows == 20
    assert found.converged
    assert set(found.candidate_accuracy) == {"1", "10", "100"}
    assert found.regularisation == 1.0  # the first of equally good ones


def test_it_learns_what_a_character_tells_where_no_space_stands_between_words(tmp_path: Path) -> None:
    manifest, config, _ = with_texts(publish(tmp_path), text="第{number}个句子里有{sign}字没有空格{number}号")
    assert evaluate_baseline(manifest, config, CLASSES).test.accuracy == 1.0


def test_the_best_on_the_validation_split_is_chosen(tmp_path: Path) -> None:
    manifest, config, _ = with_texts(publish(tmp_path))
    evaluate = config.evaluate.model_copy(update={"regularisation": [1e-9, 10.0]})
    found = evaluate_baseline(manifest, config.model_copy(update={"evaluate": evaluate}), CLASSES)
    assert found.regularisation == 10.0
    assert found.candidate_accuracy["1e-09"] < found.candidate_accuracy["10"] == 1.0


def test_a_published_row_without_a_text_is_an_error(tmp_path: Path) -> None:
    manifest, config, _ = with_texts(publish(tmp_path))
    rows = {split: read_labelled_rows(manifest, split, config) for split in SPLITS}
    rows["test"].record_ids[3] = "unknown"
    with pytest.raises(DataError, match="texts of 233 of the 234 published rows"):
        hashed_texts(manifest, config, rows)


def test_a_version_that_is_gone_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    manifest, config, _ = with_texts(publish(tmp_path))
    for file in (tmp_path / "synthetic" / "silver" / "fields").glob("*.parquet"):
        file.unlink()
    with pytest.raises(DataError, match=r"version 0 of .*silver/fields cannot be read .* publish .* again"):
        evaluate_baseline(manifest, config, CLASSES)


def test_a_manifest_without_the_version_of_silver_is_an_error(tmp_path: Path) -> None:
    published = publish(tmp_path)
    with pytest.raises(DataError, match="does not say which version"):
        evaluate_baseline(published.load(), load(published.config), CLASSES)


def test_the_same_rows_give_the_same_regression(tmp_path: Path) -> None:
    manifest, config, _ = with_texts(publish(tmp_path))
    rows = {split: read_labelled_rows(manifest, split, config) for split in SPLITS}
    matrix = hashed_texts(manifest, config, rows)["train"]
    first, second = (fit(matrix, rows["train"].labels, 10.0)[0] for _ in range(2))
    assert first.coef_.any()
    assert np.array_equal(first.coef_, second.coef_)
