"""The comparison of training input runs without any peer, and its parts count what they claim to count."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.input import __main__ as command_line
from benchmarks.input import (
    compare,
    consumer,
    generate,
    kinds,
    measure,
    memory,
    profile,
    raw_pyarrow,
    results,
)
from benchmarks.input.cases import CASES, PEERS
from benchmarks.input.loaders import Batches, Job, memory_copy, memory_map, numbered, parted, ringlake
from training.parallel.world import World

ROWS = 2_000
OURS = {"variant": "small", "streams": 4, "window": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target: Path = tmp_path_factory.mktemp("bench") / "check"
    generate.generate(target, ROWS, {"small": 64}, shards=3)
    return target


def test_generated_rows_are_published_as_the_product_stores_them(folder: Path) -> None:
    with ringlake.feed_of(Job(folder, options=OURS)) as loader:
        assert loader.order.rows == ROWS
        assert len(loader.order.streams_of(World(0, 1))) == 4
        batches = list(loader)
    numbers = ringlake.numbers([batch.keys for batch in batches], folder)
    tokens = np.concatenate([batch.features["values"].numpy() for batch in batches])
    assert sorted(numbers) == list(range(ROWS))
    assert not np.array_equal(numbers, np.arange(ROWS))
    np.testing.assert_array_equal(tokens, np.load(folder / "rows.npy")[numbers])


def test_generated_tokens_follow_zipf_and_leave_out_the_padding() -> None:
    counts = np.bincount(kinds.tokens(4_000).reshape(-1), minlength=kinds.VOCABULARY)
    assert counts[0] == 0
    assert len(counts) == kinds.VOCABULARY
    assert counts[1] / counts[2] == pytest.approx(2, rel=0.1)
    assert counts[1] / counts[10] == pytest.approx(10, rel=0.1)


def test_rows_taken_from_a_published_version_are_the_same_rows(folder: Path, tmp_path: Path) -> None:
    manifest = generate.DataSet.load(folder).manifests["small"]
    taken = generate.take(tmp_path / "demo", manifest)
    assert taken.rows == ROWS
    keys = np.load(tmp_path / "demo" / "keys.npy")
    numbers = ringlake.numbers([keys], folder)
    np.testing.assert_array_equal(
        np.load(tmp_path / "demo" / "rows.npy"), np.load(folder / "rows.npy")[numbers]
    )


def test_a_key_that_no_row_has_is_no_row(folder: Path) -> None:
    keys = np.load(folder / "keys.npy")[:3].copy()
    keys[1, 1] ^= np.uint64(1)
    assert ringlake.numbers([keys], folder).tolist() == [0, -1, 2]


@pytest.mark.parametrize("name", ["images_28", "table"])
def test_images_and_tables_are_read_row_for_row(tmp_path: Path, name: str) -> None:
    folder, kind = tmp_path / name, kinds.KINDS[name]
    data = generate.generate(folder, 300, {"shards": 32}, shards=2, kind=kind)
    options = {"variant": "shards", "streams": 4, "window": 2}
    expected = np.load(folder / "rows.npy")
    assert expected.shape == (data.rows, *kind.shape)
    for loader in (ringlake, memory_map, memory_copy):
        seen = tmp_path / "seen.npz"
        assert measure.check(loader, Job(folder, options=options), 1, seen) == {"rows": 300, "wrong": 0}
        with np.load(seen) as passes:
            assert sorted(passes["arr_0"]) == list(range(300))
    assert measure.read(ringlake, Job(folder, options=options), 60)["dtype"] == kind.dtype
    assert raw_pyarrow.scan([str(folder / "plain.parquet")]) == 300


def test_a_number_in_front_of_a_row_comes_back_in_any_dtype() -> None:
    numbers = np.array([0, 7, 70_000], dtype=np.int32)
    for dtype in (np.uint8, np.int32, np.float32):
        values = np.arange(15).reshape(3, 5).astype(dtype)
        found, back = parted(torch.from_numpy(numbered(values, numbers)))
        np.testing.assert_array_equal(found.numpy(), values)
        np.testing.assert_array_equal(back.numpy(), numbers)


def test_a_memory_copy_reuses_its_batch_unless_asked_for_new_ones(folder: Path) -> None:
    def places(**options: bool) -> set[int]:
        kept = [values for values, _ in memory_copy.batches(Job(folder, options=options))]
        return {values.data_ptr() for values in kept}

    assert len(places()) == 1
    assert len(places(fresh=True)) == -(-ROWS // 256)


def test_the_parts_of_the_processor_time_are_those_of_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [getattr(owner, name) for _, owner, name in profile.PARTS]
    assert profile.main(["table", "--rows", "300", "--passes", "2", "--data", str(tmp_path)]) == 0
    assert before == [getattr(owner, name) for _, owner, name in profile.PARTS]
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    found = {name: float(value) for name, value, _ in rows}
    parts = [value for name, value in found.items() if name.startswith("of it")]
    assert len(parts) == len(profile.PARTS) + 1
    assert sum(parts) == pytest.approx(found["ours"], abs=0.5)
    assert found["of it reading and decompressing row groups"] > 0


def test_a_pass_counts_rows_and_stops_at_its_limit(folder: Path) -> None:
    whole = measure.read(memory_map, Job(folder, epochs=2), 60)
    assert (whole["rows"], whole["distinct"], whole["whole"], whole["dtype"]) == (
        2 * ROWS,
        ROWS,
        True,
        "int32",
    )
    cut = measure.read(memory_map, Job(folder, epochs=2), 0)
    assert (cut["rows"], cut["whole"]) == (256, False)


def test_exactness_is_found_by_reading_as_two_ranks(folder: Path) -> None:
    ours = next(case for case in CASES if case.name == "limit")
    found = compare.exactness(folder, {"memory_map": compare.PYTHON}, [ours])
    assert found == {"limit": {"lost": 0, "repeated": 0, "wrong": 0, "passes": 1, "exact": True}}


def test_losses_repetitions_and_wrong_rows_are_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inexact(_python: Path, _module: str, arguments: list[list[str]]) -> list[dict[str, int]]:
        for each, seen in zip(arguments, ([0, 1, 1, -1], range(3, ROWS)), strict=True):
            np.savez(each[each.index("--check") + 1], np.asarray(seen))
        return [{"wrong": 1}, {"wrong": 0}]

    monkeypatch.setattr(compare, "run_ranks", inexact)
    found = compare.exactness(
        folder, {"memory_map": compare.PYTHON}, [case for case in CASES if case.name == "limit"]
    )
    assert found["limit"] == {"lost": 1, "repeated": 1, "wrong": 2, "passes": 1, "exact": False}


def test_a_row_with_other_tokens_is_wrong(folder: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    altered.mkdir()
    rows = np.load(folder / "rows.npy")
    np.save(altered / "rows.npy", rows)

    class Altering:
        numbers = staticmethod(memory_map.numbers)

        @staticmethod
        def batches(job: Job) -> Batches:
            for tokens, numbers in memory_map.batches(job):
                tokens[numbers == 7] += 1
                yield tokens, numbers

        @staticmethod
        def prepare(folder: Path, rows: int) -> None: ...

    found = measure.check(Altering(), Job(altered), 1, tmp_path / "seen.npz")
    assert found == {"rows": ROWS, "wrong": 1}


def test_the_yardstick_reads_every_row(folder: Path) -> None:
    assert raw_pyarrow.scan([str(folder / "plain.parquet")]) == ROWS


def test_a_consumer_takes_its_share_at_its_rate(folder: Path) -> None:
    found = consumer.consume(Job(folder, 2, 1, 2, OURS), rate=1e6)
    assert 0 < found["wait_share"] < 1
    assert found["late_share"] <= found["wait_share"]
    assert 0 < found["rows_per_second"] <= 1e6 * 1.01


def test_memory_is_reported_after_the_epochs_asked_for(folder: Path) -> None:
    found = memory.over_epochs(Job(folder, options=OURS), (1, 3))
    assert list(found) == [1, 3]
    assert all(10 < mb < 100_000 for mb in found.values())


def test_goals_hold_or_not_by_the_medians() -> None:
    def sample(rate: float, cpu: float = 0.0) -> dict[str, Any]:
        return {"rows": 100, "seconds": 100 / rate, "cpu_seconds": cpu}

    samples: dict[str, list[dict[str, Any]]] = {
        "pyarrow": [{"pyarrow_plain": 500.0, "pyarrow_shards": 2_000.0}],
        "ours": [sample(900, 2e-4), sample(1_000, 5e-5), sample(1_100, 9e-5)],
        "petastorm": [sample(100), {"error": "it broke"}],
        "litdata": [sample(2_000)],
    }
    document = results.summary(samples, {"ours": {"exact": True}}, {"ours": 300.0}, None)
    assert document["ours"] == pytest.approx(1_000)
    assert document["ratio_to_pyarrow"] == pytest.approx(2)
    assert document["ratio_to_peer"]["petastorm"] == pytest.approx(10)
    assert document["ratio_to_peer"]["webdataset"] is None
    assert document["cpu_microseconds_per_row"] == pytest.approx(0.9)
    holds = {name: goal["holds"] for name, goal in document["goals"].items()}
    assert holds == {
        "ratio_to_pyarrow": True,
        "ratio_to_own_shards": False,
        "ratio_to_petastorm": True,
        "ratio_to_fastest_peer": False,
        "cpu_microseconds_per_row": True,
        "consumer_wait_share": None,
    }


def test_wide_images_have_goals_of_their_own() -> None:
    def sample(rate: float) -> dict[str, Any]:
        return {"rows": 100, "seconds": 100 / rate, "cpu_seconds": 0.0}

    rates = {"ours": 900, "memory_copy": 1_000, "webdataset": 1_000, "huggingface_in_order": 5_000}
    samples = {name: [sample(rate)] for name, rate in rates.items()}
    document = results.summary(samples, {}, {}, None, "images_224")
    holds = {name: goal["holds"] for name, goal in document["goals"].items()}
    # A peer that does not shuffle counts in no goal.
    assert holds == {"ratio_to_shuffling_peer": False, "ratio_to_memory_copy": True}
    assert "ratio_to_memory_copy" not in results.summary(samples, {}, {}, None, "table")["goals"]
    assert "ours_many_streams" not in results.markdown(document, "images")


def test_the_command_writes_all_keys_without_peers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, written = tmp_path / "data", tmp_path / "results"
    arguments = ["--rows", "2000", "--rounds", "1", "--only", "ours", "limit", "--data-sets", "generated"]
    places = ["--data", str(data), "--results", str(written), "--timing-only"]
    assert command_line.main([*arguments, *places]) == 0
    document = json.loads((written / "input.json").read_text(encoding="utf-8"))
    keys = {
        "ours",
        "limit",
        "peers",
        "ratio_to_pyarrow",
        "ratio_to_peer",
        "shuffle",
        "exact",
        "peak_memory_mb",
    }
    assert keys <= document.keys()
    assert set(document["peers"]) == set(document["ratio_to_peer"]) == set(PEERS)
    assert document["ours"] > 0
    assert document["limit"] > 0
    assert document["ratio_to_pyarrow"] == pytest.approx(document["ours"] / document["pyarrow_plain"])
    table = (written / "input.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    assert "| **ours** |" in table
