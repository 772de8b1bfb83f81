"""The pipeline benchmark: how it judges clusters, times, memory and shuffles, and keeps results of other sizes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from benchmarks import generate
from benchmarks.corpus.truth import PAIRS
from benchmarks.environments import Environments
from benchmarks.etl import __main__ as command_line
from benchmarks.etl import ours, quality, results, shuffles, watch
from benchmarks.etl.systems import BY_NAME, ENVIRONMENTS, SYSTEMS, Data
from benchmarks.process_tree import ProcessorTime, Status, busy_seconds, descendants, proportional_mb
from common.errors import CheckError, UsageError
from schemas import config


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Write ten records: 0, 1, 2 are a chain whose ends are not similar; 3 and 4 are equal; 5 and 6 nearly similar."""
    pairs = [(0, 1, 0.85), (1, 2, 0.9), (0, 2, 0.7), (3, 4, 1.0), (5, 6, 0.79)]
    rows = [{"left": a, "right": b, "jaccard": similarity, "kind": ""} for a, b, similarity in pairs]
    pq.write_table(pa.Table.from_pylist(rows, schema=PAIRS), tmp_path / "pairs.parquet")
    return tmp_path


def judged(truth: Path, clusters: list[list[int]]) -> dict[str, float | int]:
    records = np.array([record for cluster in clusters for record in cluster], dtype=np.int64)
    labels = np.array([100 + i for i, cluster in enumerate(clusters) for _ in cluster], dtype=np.int64)
    return quality.judge(10, {"record": records, "cluster": labels}, truth, 0.8)


def test_the_true_clusters_have_full_marks(truth: Path) -> None:
    found = judged(truth, [[0, 1, 2], [3, 4]])
    assert (found["recall"], found["recall_exact"], found["recall_near"], found["precision"]) == (1, 1, 1, 1)
    assert (found["true_pairs"], found["pairs_found"]) == (3, 4)


@pytest.mark.parametrize(
    ("clusters", "recall", "exact", "near", "precision"),
    [
        ([], 0, 0, 0, 1),
        ([[3, 4]], 1 / 3, 1, 0, 1),
        ([[0, 1], [3, 4]], 2 / 3, 1, 0.5, 1),
        ([[0, 1, 2], [5, 6]], 2 / 3, 0, 1, 3 / 4),
        ([[0, 1, 2, 3, 4]], 1, 1, 1, 4 / 10),
        ([[0], [1], [7, 8]], 0, 0, 0, 0),
    ],
)
def test_lost_and_wrong_pairs_are_counted(
    truth: Path, clusters: list[list[int]], recall: float, exact: float, near: float, precision: float
) -> None:
    found = judged(truth, clusters)
    shares = (found["recall"], found["recall_exact"], found["recall_near"], found["precision"])
    assert shares == pytest.approx((recall, exact, near, precision))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("generated") / "files"
    generate.generate(folder, 1_000_000, malformed_share=0.01)
    return folder


def test_this_product_finds_the_planted_clusters(spark: SparkSession, files: Path, tmp_path: Path) -> None:
    loaded = config.load(files / "ringlake.toml", ours.overrides(files, tmp_path))
    ours.near_duplicates(spark, loaded)
    records, clusters = ours.clusters_of(loaded)
    summary = quality.summary(files)
    spoilt = (
        sum(count for name, count in summary["counts"].items() if name.startswith("malformed."))
        - (summary["counts"]["malformed.None"])
    )
    assert len(records) == summary["records"] - spoilt
    assert spoilt > 0
    found = {"record": records.to_numpy(), "cluster": clusters.to_numpy()}
    judged = quality.judge(summary["records"], found, files / "truth", summary["similarity"])
    assert judged["recall"] == 1
    assert judged["precision"] == 1
    assert judged["true_pairs"] > 50


MODULE = """
import json, sys
print("other output")
print(json.dumps({"event": "begin"}), flush=True)
print(json.dumps({"event": "end", "note": 7}), flush=True)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def module(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "measured_by_the_test.py").write_text(MODULE, encoding="utf-8")
    return {"PYTHONPATH": str(tmp_path)}


def test_a_run_has_its_times_and_what_it_tells(module: dict[str, str], tmp_path: Path) -> None:
    run = watch.watch(Path(sys.executable), "measured_by_the_test", ["0"], module, tmp_path / "log")
    assert 0 < run.seconds < run.cold_seconds
    assert run.more == {"note": 7}


def test_what_a_java_machine_has_just_forked_is_none_of_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {1: ("python", 0), 2: ("java", 1), 3: ("python", 2), 4: ("python", 3), 5: ("Executor task l", 2)}
    running = {process: Status(name, parent, 0.0, 0.0) for process, (name, parent) in names.items()}
    monkeypatch.setattr(watch, "statuses", lambda: running)
    monkeypatch.setattr(watch, "proportional_mb", {1: 1.0, 2: 500.0, 3: 20.0, 4: 70.0, 5: 400.0}.__getitem__)
    peaks = watch.Peaks()
    peaks.add(1)
    assert (peaks.java, peaks.below_java, peaks.all) == (500, 90, 991)


def test_the_memory_of_a_process_and_all_below_it_is_counted() -> None:
    holding = (
        "import sys; held = bytearray(b'x' * 1000) * 100_000; print(len(held), flush=True); sys.stdin.read()"
    )
    below = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holding!r}])"
    peaks = watch.Peaks()
    arguments = [sys.executable, "-c", below]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the lock is held now
        peaks.add(process.pid)
        process.communicate()
    assert 100 < peaks.all < 300
    assert (peaks.java, peaks.below_java) == (0, 0)
    peaks.add(process.pid)
    assert peaks.all > 100


def test_a_run_that_fails_is_an_error_with_its_messages(module: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(CheckError, match="status 3"):
        watch.watch(Path(sys.executable), "measured_by_the_test", ["3"], module, tmp_path / "log")
    with pytest.raises(CheckError, match="No module named"):
        watch.watch(Path(sys.executable), "no_such_module", [], module, tmp_path / "log")


def test_processor_time_of_others_is_what_neither_we_nor_nobody_used() -> None:
    begin = watch.Moment(wall=10.0, own=5.0, busy=100.0)
    assert watch.others_share(begin, watch.Moment(20.0, 20.0, 116.0), 2) == pytest.approx(0.05)
    assert watch.others_share(begin, watch.Moment(20.0, 25.0, 119.0), 2) == 0


WORKING = "import time\nwhile time.process_time() < 0.4: pass"


def test_processes_below_this_one_count_even_after_their_end() -> None:
    own = ProcessorTime(os.getpid())
    before, machine = own.seconds(), busy_seconds()
    with subprocess.Popen([sys.executable, "-c", WORKING]) as child:
        assert child.pid in descendants(os.getpid())
        assert proportional_mb(os.getpid()) > 1
    assert own.seconds() - before > 0.35
    assert busy_seconds() - machine > 0.35
    assert proportional_mb(child.pid) == 0
    assert child.pid not in descendants(os.getpid())


def test_processes_that_nobody_waits_for_count_too() -> None:
    """Spark's daemon of Python workers ignores when they end."""
    below = (
        "import os, signal, subprocess, sys, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"for _ in range(2): subprocess.Popen([sys.executable, '-c', {WORKING + chr(10) + 'time.sleep(1)'!r}])\n"
        "print(flush=True)\nsys.stdin.read()"
    )
    own = ProcessorTime(os.getpid())
    before = own.seconds()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", below], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        process.stdout.readline()
        while len(descendants(process.pid)) > 1:
            own.seconds()
            time.sleep(0.05)
        process.communicate()
    used = own.seconds() - before
    assert 0.7 < used < 5
    assert own.seconds() - before == pytest.approx(used, abs=0.3)


def task(stage: int, launched: float, written: int) -> str:
    event = {
        "Event": "SparkListenerTaskEnd",
        "Stage ID": stage,
        "Task Info": {"Launch Time": int(launched * 1000)},
        "Task Metrics": {"Shuffle Write Metrics": {"Shuffle Bytes Written": written}},
    }
    return json.dumps(event, separators=(",", ":"))


def test_shuffled_bytes_are_those_of_tasks_within_the_time(tmp_path: Path) -> None:
    conf = shuffles.configure(tmp_path)
    assert (
        f"spark.eventLog.dir {(tmp_path / 'events').as_uri()}" in (conf / "spark-defaults.conf").read_text()
    )
    lines = [
        task(0, 5, 1000),
        task(1, 11, 10),
        task(1, 12, 20),
        task(2, 13, 7),
        task(3, 13, 0),
        task(4, 30, 9),
    ]
    (tmp_path / "events" / "local-1").write_text("\n".join(['{"Event":"Other"}', *lines]), encoding="utf-8")
    (tmp_path / "events" / "local-2").write_text(task(1, 14, 100) + "\n", encoding="utf-8")
    assert shuffles.shuffled(tmp_path, 10, 20) == [100, 30, 7]


def sample(seconds: float, *, warm: bool = True, disturbed: bool = False, **more: Any) -> dict[str, Any]:
    quality = {"recall": 1.0, "recall_exact": 1.0, "recall_near": 1.0, "precision": 0.5, "true_pairs": 9}
    return {
        "warm": warm,
        "turn": f"{seconds}",
        "seconds": seconds,
        "cold_seconds": seconds + 10,
        "cpu_seconds": 2 * seconds,
        "disturbed": disturbed,
        "peaks": {"all": 1000 * seconds, "java": 600.0, "below_java": 300.0},
        "more": quality | more,
    }


def test_figures_are_medians_of_the_undisturbed_runs() -> None:
    samples = [
        sample(4.0),
        sample(5.0),
        sample(9.0, disturbed=True),
        sample(6.0),
        sample(20.0, warm=False),
        sample(100.0, disturbed=True),
    ]
    found = results.figures(samples, 50_000_000, 60_000)
    assert (found["seconds"], found["cold_seconds"], found["runs"], found["disturbed_runs"]) == (
        5.0,
        30.0,
        5,
        2,
    )
    assert (found["mb_per_second"], found["mb_per_second_per_core"]) == (10.0, 5.0)
    assert (found["documents_per_second"], found["peak_memory_mb"]) == (12_000, 5_000)
    assert found["shuffle_bytes"] is None
    assert results.figures([sample(3.0, disturbed=True)], 1, 1)["seconds"] == 3.0
    assert results.figures([], 1, 1) == {"seconds": None, "runs": 0}


def test_shuffled_bytes_stand_in_the_figures() -> None:
    found = results.figures([sample(1.0, shuffles=[5, 2]), sample(1.0, shuffles=[7, 2])], 1, 1)
    assert found["shuffle_bytes"] == 8
    assert found["largest_shuffles_bytes"] == [7, 2]


def document() -> dict[str, Any]:
    near = results.figures([sample(50.0, shuffles=[1])], 10**9, 10**6)
    slow = results.figures([sample(600.0, shuffles=[1])], 10**10, 10**7)
    peer = results.figures([sample(450.0)], 10**9, 10**6)
    return {"1GB": {"ours_near_duplicates": near, "datatrove": peer}, "10GB": {"ours_near_duplicates": slow}}


def test_the_slope_compares_10_gb_with_1_gb() -> None:
    found = results.slope(document())
    assert found["ours_near_duplicates"] == pytest.approx(12)
    assert found["ours_near_duplicates_python_workers_mb"] == pytest.approx(1)
    assert results.slope({"1GB": document()["1GB"]}) == {}


def test_goals_hold_or_not() -> None:
    whole = document()
    goals: dict[str, Any] = {name: rest for name, *rest in results.goals(whole)}
    assert goals["1GB: times datatrove"] == [9.0, 10.0, False]
    assert goals["1GB: documents/s, near-duplicates"] == [20_000, 10_000, False]
    assert goals["10GB: peak MB, ours_pipeline"][0] is None
    table = results.markdown(whole | {"slope": results.slope(whole)})
    assert "- 1GB: times datatrove: 9 (at least 10: missed)" in table
    assert "- time from 1 to 10 GB, ours_near_duplicates: 12 (at most 10.5: missed)" in table
    assert "- 1GB: documents/s, near-duplicates: 20,000 (at least 10,000: holds)" in table
    assert "| **ours_near_duplicates** | 50.0 | 60.0 | 20.00 | 10.00 | 20,000 |" in table
    assert table.index("### 1GB") < table.index("### 10GB")


def test_results_of_other_sizes_and_systems_stay(files: Path, tmp_path: Path) -> None:
    file = tmp_path / "etl.json"
    file.write_text(json.dumps({**document(), "slope": {}}), encoding="utf-8")
    data = Data(files, files, files)
    kept = command_line.document_with(
        file,
        "1GB",
        {
            "text_dedup": [
                {**sample(90.0, disturbed=True), "turn": "1"},
                {**sample(2.0, disturbed=True), "turn": "1"},
            ]
        },
        data,
    )
    assert list(kept) == ["1GB", "10GB", "slope"]
    assert kept["1GB"]["datatrove"] == document()["1GB"]["datatrove"]
    assert kept["1GB"]["text_dedup"]["seconds"] == 2.0
    assert kept["1GB"]["text_dedup"]["documents"] == quality.summary(files)["records"]
    assert kept["slope"]["ours_near_duplicates"] == pytest.approx(12)


def test_systems_take_turns_and_only_ours_starts_cold_as_well() -> None:
    order = [(system.name, warm) for system, warm in command_line.turns(SYSTEMS, cold=True)]
    assert [name for name, warm in order if warm] == [system.name for system in SYSTEMS]
    assert [name for name, warm in order if not warm] == ["ours_near_duplicates"]


def test_files_are_generated_once_and_again_for_another_seed(tmp_path: Path) -> None:
    near = [BY_NAME["datatrove"]]
    data = command_line.prepare(tmp_path, "1MB", 0, near)
    assert not data.whole.exists()
    assert "malformed.wrong_type" not in quality.summary(data.sound)["counts"]
    written = (data.sound / "part-00000.jsonl").stat().st_mtime_ns
    command_line.prepare(tmp_path, "1MB", 0, near)
    assert (data.sound / "part-00000.jsonl").stat().st_mtime_ns == written
    command_line.prepare(tmp_path, "1MB", 1, near)
    assert (data.sound / "part-00000.jsonl").stat().st_mtime_ns > written


def test_peers_are_not_run_on_10_gb(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="10GB"):
        command_line.main(["--size", "10GB", "--only", "datatrove", "--data", str(tmp_path)])


@pytest.mark.parametrize("system", [system for system in SYSTEMS if system.peer])
def test_every_peer_has_a_lock_with_hashes(system: Any) -> None:
    lock = ENVIRONMENTS.requirements(system.peer).read_text(encoding="utf-8")
    assert lock.count("--hash=sha256:") > lock.count("==") > 20
    assert ENVIRONMENTS.version_of(system.peer, system.package)


def test_an_environment_that_is_up_to_date_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    monkeypatch.setattr("benchmarks.environments._install", lambda python, lock: built.append(lock))
    (tmp_path / "requirements").mkdir()
    lock = tmp_path / "requirements" / "peer.txt"
    lock.write_text("one==1.0 \\\n", encoding="utf-8")
    environments = Environments(tmp_path)
    assert environments.python_of("peer").exists()
    environments.python_of("peer")
    assert built == [lock]
    lock.write_text("one==1.1 \\\n", encoding="utf-8")
    environments.python_of("peer")
    assert built == [lock, lock]
    assert environments.version_of("peer", "one") == "1.1"
