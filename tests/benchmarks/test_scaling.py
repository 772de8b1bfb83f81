"""Arithmetic of the scaling benchmark; nothing here measures time."""

import itertools

import pytest
import torch

from benchmarks.scaling import figures, projection, table
from benchmarks.scaling.__main__ import ALIVE, chunks, describe, merged
from benchmarks.scaling.cases import CASES, CEILING, TUNING
from benchmarks.scaling.groups import Slice, of_ranks
from benchmarks.scaling.workload import LENGTH, MODELS, ROWS, Workload


@pytest.mark.parametrize("cases", [CASES, TUNING])
def test_every_case_stands_between_ceilings_and_passes_alternate(cases: dict[str, object]) -> None:
    order = figures.schedule(list(cases), 0)
    assert order[0] == order[-1] == CEILING
    assert sorted(name for name in order if name != CEILING) == sorted(set(cases) - {CEILING})
    places = [place for place, name in enumerate(order) if name == CEILING]
    assert all(after - before <= 3 for before, after in itertools.pairwise(places))
    assert figures.schedule(list(cases), 1) == order[::-1]


def test_few_cases_are_alive_at_a_time_and_each_once() -> None:
    made = chunks(CASES)
    assert all(CEILING in some and len(some) <= ALIVE + 1 for some in made)
    assert sorted(name for some in made for name in some if name != CEILING) == sorted(set(CASES) - {CEILING})


def test_a_ratio_is_to_the_ceilings_before_and_after() -> None:
    order = [CEILING, "a", "b", CEILING, "c", CEILING]
    found = figures.ratios(order, [100, 90, 45, 80, 35, 60])
    assert found == pytest.approx({"a": 1.0, "b": 0.5, "c": 0.5})


def test_medians_are_of_ratios_not_of_rates() -> None:
    assert figures.medians([{"a": 0.5}, {"a": 0.9}, {"a": 0.8}]) == {"a": 0.8}


def test_rates_of_ranks_add_up_and_times_are_means() -> None:
    one = of_ranks([[2.0, 1.0, 1.5], [4.0, 3.0, 3.1]], 10)
    assert one.rate == pytest.approx(ROWS * 10 / 2 + ROWS * 10 / 4)
    assert one.seconds == pytest.approx(0.3)
    assert one.main_seconds == pytest.approx(0.2)
    assert one.other_seconds == pytest.approx(0.03)


def test_results_hold_the_names_that_readers_expect_and_keep_other_cases() -> None:
    def figures_of(name: str, ratio: float) -> dict[str, object]:
        slices = {CEILING: [Slice(100.0, 0.3, 0.2, 0.0)], name: [Slice(100 * ratio, 0.3, 0.2, 0.1)]}
        return describe("demo", slices, [{name: ratio}])

    later = figures_of("ddp", 0.8)
    later[CEILING] = 50.0
    both = merged(figures_of("horovod", 0.9), later)
    assert (both["horovod"], both["ceiling"]) == (90.0, 100.0)
    assert {"ceiling", "horovod", "ddp", "horovod_ratio", "ddp_ratio"} <= both.keys()
    assert both["ratios"] == {"horovod": [0.9], "ddp": [0.8]}
    shown = table.markdown({"demo": both})
    assert "| horovod | 90 | 0.900 | 0.900–0.900 | 300.0 | 200.0 | 100.0 |" in shown
    assert "| ceiling | 100 | 1 |" in shown


def test_the_models_differ_tenfold_and_even_ranks_have_equal_lengths() -> None:
    sizes = [sum(p.numel() for p in Workload(name, 0, even=True).build().parameters()) for name in MODELS]
    assert sizes[1] / sizes[0] == pytest.approx(10, rel=0.1)

    def lengths(rank: int, even: bool) -> list[list[int]]:
        batches = Workload("demo", rank, even).batches(2)
        return [sorted((b.features["tokens"] != 0).sum(dim=1).tolist()) for b in batches]

    assert lengths(0, True) == lengths(1, True)
    assert lengths(0, False) != lengths(1, False)
    every = torch.tensor(lengths(0, True)).flatten().double()
    assert 10 <= every.median() <= 24
    assert 0.08 <= (every == LENGTH).double().mean() <= 0.18


def test_the_ring_sends_what_patarasuk_and_yuan_say() -> None:
    assert projection.ring_seconds(8e9, 1, 1e9) == 0
    assert projection.ring_seconds(8e9, 2, 1e9) == 8
    assert projection.ring_seconds(8e9, 4, 1e9) == 12
    assert projection.ring_seconds(0, 3, 1e9, latency=0.5) == 2
    assert projection.ring_seconds(8e9, 10**9, 1e9) == pytest.approx(16)


def test_projections_follow_from_computation_and_exchange() -> None:
    assert projection.step_seconds() == pytest.approx(6 * 110e6 * 4096 / 50e12)
    slow, half = projection.Projection(8, 25, 4), projection.Projection(8, 25, 2)
    assert slow.exchange == pytest.approx(2 * 7 / 8 * 440e6 / (25e9 / 8) + 14 * 10e-6)
    assert slow.exchange - half.exchange == pytest.approx(2 * 7 / 8 * 220e6 / (25e9 / 8))
    assert slow.flat == pytest.approx(projection.step_seconds() / (projection.step_seconds() + slow.exchange))
    assert slow.flat < half.flat < half.overlapped < 1
    assert projection.Projection(1, 25, 4).overlapped == 1
    assert projection.markdown().count("\n") == 14
