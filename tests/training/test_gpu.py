"""Tests that need a GPU; on a machine with one, all other tests of training run on it too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import training
from schemas.config import load
from tests.training.devices import HAS_GPU, OF_TWO
from tests.training.published import Published, publish
from tests.training.runs import EXACT, result, weights
from training.input.batch_loader import BatchLoader
from training.parallel.world import World

pytestmark = pytest.mark.skipif(not HAS_GPU, reason="no GPU here")

REPOSITORY = Path(training.__file__).parents[1]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


def command(published: Published, run: str, *flags: str, ranks: int = 1, gpus: bool = True) -> str:
    """Run training.train as a command, with or without the GPUs; return its output."""
    hidden = {} if gpus else {"CUDA_VISIBLE_DEVICES": "-1"}
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    launch = [str(Path(sys.executable).with_name("horovodrun")), "-np", str(ranks), "--gloo"]
    train = [sys.executable, "-m", "training.train", "--config", str(published.config), "--run", run, *flags]
    done = subprocess.run(
        [*launch, *train] if ranks > 1 else train,
        cwd=published.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": paths, **hidden},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def device(published: Published, run: str) -> str:
    document = json.loads((published.root / "runs" / run / "run.json").read_text())
    return str(document["environment"]["device"])


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def on_gpu(published: Published) -> str:
    command(published, "gpu", *EXACT)
    return "gpu"


def test_one_rank_trains_on_the_gpu_what_it_trains_on_the_cpu(published: Published, on_gpu: str) -> None:
    assert device(published, on_gpu) == "cuda:0"
    command(published, "cpu", *EXACT, gpus=False)
    assert device(published, "cpu") == "cpu"
    assert_close(weights(published, on_gpu), weights(published, "cpu"))


def test_equal_runs_give_equal_bits_on_the_gpu_also_where_one_stops_between(published: Published) -> None:
    for run in ("first", "second"):
        command(published, run)
    command(published, "halves", "--stop-after", "7")
    command(published, "halves", "--resume")
    for key in ("weights_sha256", "checkpoint_sha256"):
        assert len({result(published, run)[key] for run in ("first", "second", "halves")}) == 1


def test_a_checkpoint_of_the_gpu_goes_on_without_one(published: Published) -> None:
    command(published, "moves", *EXACT, "--stop-after", "7")
    assert device(published, "moves") == "cuda:0"
    file = published.root / "runs" / "moves" / "checkpoints" / "step-00000007.pt"
    state = torch.load(file, weights_only=True)  # loads each tensor to where it was saved
    tensors = [*state["model"].values(), *state["method"]["optimizer"]["state"][0].values()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert "from step 7 on" in command(published, "moves", *EXACT, "--resume", gpus=False)
    assert device(published, "moves") == "cpu"


@pytest.mark.parametrize("exchange", ["flat", "overlapped"])
@pytest.mark.skipif("cuda" not in OF_TWO, reason="two ranks have no way between their GPUs here")
def test_two_ranks_train_on_gpus_what_one_does(published: Published, on_gpu: str, exchange: str) -> None:
    run = f"two-{exchange}"
    command(published, run, *EXACT, "--set", f"train.gradients={exchange}", ranks=2)
    assert device(published, run) == "cuda:0"
    assert_close(weights(published, run), weights(published, on_gpu))


def test_batches_lie_in_page_locked_memory_where_asked_for(published: Published) -> None:
    manifest = published.load()
    settings = load(published.config).train
    with (
        BatchLoader(manifest, "train", settings, World(0, 1), pinned=True) as first,
        BatchLoader(manifest, "train", settings, World(0, 1)) as second,
    ):
        pinned, pageable = list(first), list(second)
    assert len(pinned) == len(pageable) == 11
    for ours, theirs in zip(pinned, pageable, strict=True):
        assert ours.labels is not None
        assert theirs.labels is not None
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.features["tokens"], theirs.features["tokens"])
        for tensor in (ours.labels, ours.features["tokens"]):
            assert tensor.is_pinned()
            assert tensor.to("cuda", non_blocking=True).is_cuda
        assert not theirs.labels.is_pinned()
