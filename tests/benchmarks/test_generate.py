"""The generated data set matches its truth, as found by brute force, and is the same for the same seed."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_array

from benchmarks import generate
from benchmarks.corpus import compose, pieces, plan
from benchmarks.corpus.randomness import Permutation
from common.errors import UsageError
from schemas import config

SIZE = 2_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target: Path = tmp_path_factory.mktemp("generated") / "set"
    generate.generate(target, SIZE)
    return target


def lines_of(folder: Path) -> list[bytes]:
    return [line for file in sorted(folder.glob("part-*.jsonl")) for line in file.read_bytes().splitlines()]


def texts_of(folder: Path) -> dict[int, str]:
    """Return the texts of the sound records."""
    spoilt = pc.is_valid(pq.read_table(folder / "truth" / "records.parquet")["malformed"]).to_pylist()
    sound = (json.loads(line) for line, bad in zip(lines_of(folder), spoilt, strict=True) if not bad)
    return {int(record["id"]): record["text"] for record in sound}


def tokens_of(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def all_similarities(texts: dict[int, str]) -> npt.NDArray[np.float64]:
    """Return the Jaccard similarity of every two texts, from sets of tuples of tokens."""
    numbers: dict[tuple[str, ...], int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts.values()):
        tokens = tokens_of(text)
        for shingle in {tokens[i : i + 5] for i in range(max(1, len(tokens) - 4))}:
            rows.append(row)
            columns.append(numbers.setdefault(shingle, len(numbers)))
    sets = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(texts), len(numbers)))
    common = (sets @ sets.T).toarray()
    sizes = common.diagonal()
    found: npt.NDArray[np.float64] = common / (sizes[:, None] + sizes[None, :] - common)
    return found


def test_planted_pairs_are_all_similar_pairs_and_have_the_similarity_that_is_stated(folder: Path) -> None:
    texts = texts_of(folder)
    records = np.array(list(texts))
    row = {record: place for place, record in enumerate(records.tolist())}
    similar = all_similarities(texts)
    pairs = pq.read_table(folder / "truth" / "pairs.parquet")
    left, right = (np.array([row[r] for r in pairs[side].to_pylist()]) for side in ("left", "right"))
    np.testing.assert_allclose(similar[left, right], pairs["jaccard"].to_numpy(), atol=1e-12)
    planted = np.zeros_like(similar, dtype=bool)
    planted[left, right] = planted[right, left] = True
    truth = pq.read_table(folder / "truth" / "records.parquet")
    mega = set(truth.filter(pc.equal(truth["kind"].cast("string"), "mega"))["record"].to_pylist())
    in_mega = np.isin(records, list(mega))
    planted |= np.outer(in_mega, in_mega) | np.eye(len(records), dtype=bool)
    assert similar[~planted].max() < 0.7
    # Texts with only boilerplate in common exist, and are similar enough to be mistaken.
    assert similar[~planted].max() > 0.3
    # The mega-cluster hangs together: every member is a true duplicate of its base.
    base = pairs.filter(pc.is_in(pairs["left"], pc.cast(list(mega), "int64")))["jaccard"].to_numpy()
    assert len(base) == len(mega) - 1
    assert base.min() >= 0.8


def test_exact_pairs_have_the_same_tokens_and_near_ones_have_not(folder: Path) -> None:
    texts = texts_of(folder)
    pairs = pq.read_table(folder / "truth" / "pairs.parquet").to_pylist()
    exact = [pair for pair in pairs if pair["kind"] == "exact"]
    assert len(exact) > 50
    assert all(tokens_of(texts[pair["left"]]) == tokens_of(texts[pair["right"]]) for pair in exact)
    assert any(texts[pair["left"]] != texts[pair["right"]] for pair in exact)
    near = [pair for pair in pairs if pair["kind"] not in ("exact", "scattered")]
    assert all(tokens_of(texts[pair["left"]]) != tokens_of(texts[pair["right"]]) for pair in near)
    kinds = Counter(pair["kind"] for pair in pairs if pair["jaccard"] >= 0.8)
    assert {"replaced", "scattered", "deleted", "inserted", "moved", "chained"} <= kinds.keys()
    assert any(pair["jaccard"] < 0.8 for pair in near)


def test_malformed_records_are_as_many_and_as_spoilt_as_the_truth_says(folder: Path) -> None:
    table = pq.read_table(folder / "truth" / "records.parquet")
    reasons = table["malformed"].cast("string").to_pylist()
    found: list[str | None] = []
    for line in lines_of(folder):
        try:
            record = json.loads(line.decode())
        except UnicodeDecodeError:
            found.append("invalid_utf8")
        except json.JSONDecodeError:
            found.append("invalid_json")
        else:
            text = record.get("text")
            found.append("missing_column" if text is None else "wrong_type" if type(text) is list else None)
    assert found == reasons
    assert Counter(found).total() - Counter(found)[None] == pytest.approx(0.005 * len(found), rel=0.5)
    families = table["family"].to_numpy()
    assert all(family < 0 for family, reason in zip(families, reasons, strict=True) if reason)


def test_only_records_on_their_own_are_spoilt() -> None:
    everything = generate.plan_of(SIZE, 0, malformed_share=1.0)
    records = np.arange(everything.records)
    slots = everything.plan(everything.slots_of(records))
    spoilt = everything.malformed(records, slots.kind) >= 0
    np.testing.assert_array_equal(spoilt, slots.kind == plan.SINGLE)


def test_the_truth_names_labels_personal_data_files_and_lines(folder: Path) -> None:
    table = pq.read_table(folder / "truth" / "records.parquet").to_pylist()
    texts = texts_of(folder)
    patterns = {
        "email": re.compile(r"\w+\.\w+@\w+\.(org|net|com|edu) "),
        "phone": re.compile(r"\(\d{3}\) \d{3}-\d{4} "),
        "ip_address": re.compile(r"\d{3}\.\d{3}\.\d{3}\.\d{3} "),
    }
    for row in table:
        if row["malformed"] is None:
            text = texts[row["record"]]
            assert {kind for kind, pattern in patterns.items() if pattern.search(text)} == (
                {row["personal"]} - {None}
            )
    last = table[-1]
    assert last["file"] == 1
    line = (folder / "part-00001.jsonl").read_bytes().splitlines()[last["line"]]
    record = json.loads(line)
    assert (int(record["id"]), record["label"]) == (last["record"], last["label"])


def test_classes_and_words_follow_zipf_and_lengths_are_those_of_documents(folder: Path) -> None:
    labels = Counter(pq.read_table(folder / "truth" / "records.parquet")["label"].cast("string").to_pylist())
    assert len(labels) == pieces.CLASSES
    assert labels["class-00"] / labels["class-03"] == pytest.approx(4, rel=0.4)
    texts = texts_of(folder)
    words = Counter(word for text in texts.values() for word in tokens_of(text))
    frequent = [count for _, count in words.most_common(100)]
    assert frequent[1] / frequent[50] == pytest.approx(
        (51 + compose.ZIPF_SHIFT) / (2 + compose.ZIPF_SHIFT), rel=0.4
    )
    sizes = np.array([len(text.encode()) for text in texts.values()])
    assert 600 < sizes.mean() < 800
    assert sizes.min() < 40
    assert sizes.max() > 5 * sizes.mean()
    assert sum(file.stat().st_size for file in folder.glob("part-*")) == pytest.approx(SIZE, rel=0.15)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    def digests(of: Path) -> dict[str, str]:
        files = [*of.glob("part-*"), *of.glob("truth/*")]
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    generate.generate(tmp_path / "again", SIZE)
    generate.generate(tmp_path / "other", SIZE, seed=1)
    again, other = digests(tmp_path / "again"), digests(tmp_path / "other")
    assert again == digests(folder)
    assert len(again) == 5
    assert all(other[name] != again[name] for name in again)


def test_memory_does_not_depend_on_the_size() -> None:
    # The number of records made at a time, and their lengths, are bounded at any size.
    huge = generate.plan_of(100 * 10**9, 0)
    blocks = generate.blocks(huge)
    lines, rows = next(blocks)
    assert len(rows) == generate.RECORDS_AT_ONCE
    assert len(lines) < generate.RECORDS_AT_ONCE * 2 * generate.RECORD_BYTES
    assert plan.LENGTHS.max() < 10_000


def test_without_malformed_records_all_others_stay_the_same(folder: Path, tmp_path: Path) -> None:
    generate.generate(tmp_path / "sound", SIZE, malformed_share=0.0)
    spoilt = [len(line) for line in lines_of(folder)]
    changed = [
        number
        for number, (one, two) in enumerate(zip(lines_of(folder), lines_of(tmp_path / "sound"), strict=True))
        if one != two
    ]
    truth = pq.read_table(folder / "truth" / "records.parquet")
    assert changed == truth.filter(pc.is_valid(truth["malformed"]))["record"].to_pylist()
    assert len(spoilt) > len(changed) > 0


def test_a_permutation_has_an_inverse_and_repeats_nothing() -> None:
    for count in (1, 2, 5, 1000, 4097):
        numbers = np.arange(count)
        permuted = Permutation(count, 12345).forward(numbers)
        assert sorted(permuted.tolist()) == numbers.tolist()
        np.testing.assert_array_equal(Permutation(count, 12345).backward(permuted), numbers)
    assert not np.array_equal(Permutation(1000, 12345).forward(np.arange(1000)), np.arange(1000))


def test_pieces_of_texts_hold_one_token_each() -> None:
    table = pieces.pieces()
    for piece, token in list(zip(table.table.to_pylist(), table.token.tolist(), strict=True))[::997]:
        if token >= 0:
            assert len(re.findall(r"\w+", piece.decode().replace(r"\n", "\n"))) == 1
    assert len(set(pieces.words())) == pieces.WORDS
    assert len({pieces.normalised(word) for word in pieces.words()}) == pieces.WORDS


def test_the_configuration_names_the_files_and_is_valid(folder: Path) -> None:
    found = config.load(folder / "ringlake.toml")
    assert found.deduplicate.similarity == generate.SIMILARITY
    assert found.source[0].path == f"{folder.resolve()}/part-*.jsonl"


@pytest.mark.parametrize(("text", "expected"), [("100MB", 10**8), ("1gb", 10**9), ("0.5 GB", 5 * 10**8)])
def test_sizes_are_read(text: str, expected: int) -> None:
    assert generate.bytes_of(text) == expected


def test_files_are_of_one_size_and_enough_to_be_read_in_parallel() -> None:
    for size, least, most in ((100 * 10**6, 4, 4), (10**9, 15, 17), (10**10, 150, 160)):
        plan_of = generate.plan_of(size, 0)
        files = -(-plan_of.records // generate.records_of_a_file(plan_of))
        assert least <= files <= most


@pytest.mark.parametrize("text", ["100", "MB", "1TB", "-1GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no size"):
        generate.bytes_of(text)
