import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.minhash import results, texts
from benchmarks.minhash.__main__ import main
from benchmarks.minhash.cases import CASES, PACKAGES
from benchmarks.minhash.kernels import HASHES, ringlake, shingles
from common.errors import UsageError
from etl.duplicates.minhash import shingle_sets
from etl.duplicates.tokens import tokenise


def test_texts_are_the_same_each_time_and_some_are_not_ascii(tmp_path: Path) -> None:
    texts.write(tmp_path / "texts.jsonl", 60)
    found = texts.read(tmp_path / "texts.jsonl")
    assert found == list(texts.texts(60))
    assert len(found) == 60
    assert 0 < sum(not text.isascii() for text in found) < 30
    assert texts.read(tmp_path / "texts.jsonl", 7) == found[:7]


def test_shingles_made_by_python_are_as_many_as_ours() -> None:
    given = [*texts.texts(40), "", "two words", "Straße, STRASSE; ﬁn ﬁn ﬁn"]
    _, offsets = shingle_sets(tokenise(pa.array(given)), 5)
    ours = (offsets[1:] - offsets[:-1]).tolist()
    assert [len(shingles(text)) for text in given] == ours


def test_our_kernel_does_all_texts_with_tokens() -> None:
    given = list(texts.texts(50))
    assert len(set(given)) == 50
    assert ringlake.run(ringlake.prepare(given)) == 50
    assert ringlake.run_values(ringlake.prepare(given)) == 50
    assert ringlake.run_hashes(ringlake.prepare_hashes(given)) == 50


def test_every_peer_has_a_lock_with_hashes() -> None:
    folder = Path(results.__file__).parent / "requirements"
    for peer in {case.peer for case in CASES} - {None}:
        lock = (folder / f"{peer}.txt").read_text(encoding="utf-8")
        assert f"{PACKAGES[str(peer)]}==" in lock
        assert "--hash=sha256:" in lock


def sample(done: int, cpu: float, seconds: float = 2.0) -> dict[str, Any]:
    return {"texts": done, "done": done, "bytes": done * 1_000_000, "seconds": seconds, "cpu_seconds": cpu}


def test_figures_are_medians_of_what_did_not_fail() -> None:
    samples: dict[str, list[dict[str, Any]]] = {
        "ours": [sample(100, 1.0), sample(100, 4.0), sample(100, 2.0)],
        "rensa": [sample(100, 0.5), {"error": "no"}],
        "daft": [{"error": "no"}],
    }
    found = results.summary(samples, {"numpy": "1"}, {"daft": "no"})
    assert found["cases"]["ours"]["documents_per_second"] == 50.0
    assert found["cases"]["ours"]["documents_per_second_by_the_clock"] == 50.0
    assert found["cases"]["rensa"]["rounds"] == 1
    assert found["ratio_of_ours_to"] == {"rensa": 0.25}
    assert found["fastest"] == "rensa"
    lines = results.markdown(found).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| rensa", "| ours"]
    assert "| 200 | 200.0 | 50 | 4.00 |" in lines[2]


def test_measures_one_kernel_and_writes_both_files(tmp_path: Path) -> None:
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    assert main(["--rounds", "1", "--texts", "30", "--only", "ours", "ours, hashes to values", *folders]) == 0
    document = json.loads((tmp_path / "results" / "minhash.json").read_text(encoding="utf-8"))
    assert document["cases"]["ours"]["texts"] == 30
    assert document["missing"] == {}
    assert "| ours |" in (tmp_path / "results" / "minhash.md").read_text(encoding="utf-8")


def test_an_unknown_kernel_is_refused() -> None:
    assert HASHES == 140
    with pytest.raises(UsageError, match="there is no kernel 'x'"):
        main(["--only", "x"])
