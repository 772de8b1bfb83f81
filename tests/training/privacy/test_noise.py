"""Noise and its key: the promised variance on any number of ranks, and nobody without the file can make it."""

import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from common.errors import UsageError
from training.privacy import key_file
from training.privacy.noise import BLOCK, KEY_BYTES, Noise

KEY, OTHER = b"k" * KEY_BYTES, b"o" * KEY_BYTES
NUMBERS = 10 * BLOCK + 5


def noise_of(ranks: int, step: int = 3, noise: Noise | None = None) -> torch.Tensor:
    """Return the sum over so many ranks of what each adds."""
    total = torch.zeros(NUMBERS)
    for rank in range(ranks):
        (noise or Noise(KEY, b"data")).add(total, 2.5, step, rank, ranks)
    return total


@pytest.mark.parametrize("ranks", [1, 4])
def test_the_sum_over_ranks_has_the_deviation_asked_for(ranks: int) -> None:
    total = noise_of(ranks)
    # The standard error of a deviation is 1 / √(2n).
    assert float(total.std()) == pytest.approx(2.5, rel=4 / (2 * NUMBERS) ** 0.5)
    assert abs(float(total.mean())) < 4 * 2.5 / NUMBERS**0.5
    assert stats.kstest(total.numpy() / 2.5, "norm").pvalue > 0.001


def test_a_step_repeated_on_other_ranks_has_the_same_noise() -> None:
    assert torch.equal(noise_of(1), noise_of(4))


@pytest.mark.parametrize(
    "other",
    [noise_of(1, step=4), noise_of(1, noise=Noise(OTHER, b"data")), noise_of(1, noise=Noise(KEY, b"x"))],
)
def test_other_steps_keys_and_data_have_other_noise(other: torch.Tensor) -> None:
    ours = noise_of(1)
    assert abs(np.corrcoef(ours.numpy(), other.numpy())[0, 1]) < 4 / NUMBERS**0.5


def test_blocks_do_not_repeat() -> None:
    noise = Noise(KEY, b"data")
    assert abs(np.corrcoef(noise.normal(0, 0), noise.normal(0, 1))[0, 1]) < 4 / BLOCK**0.5
    assert abs(np.corrcoef(noise.normal(0, 0)[: BLOCK // 2], noise.normal(0, 0)[BLOCK // 2 :])[0, 1]) < 0.05


def test_the_key_is_its_owners_alone(tmp_path: Path) -> None:
    key = key_file.create(tmp_path)
    path = key_file.path_of(tmp_path)
    assert len(key) == KEY_BYTES
    assert key == path.read_bytes() == key_file.read(tmp_path, key_file.fingerprint_of(key))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert key_file.create(tmp_path) != key


def test_a_key_that_is_missing_open_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"noise\.key.*put it back"):
        key_file.read(tmp_path, "")
    key = key_file.create(tmp_path)
    with pytest.raises(UsageError, match="not the key"):
        key_file.read(tmp_path, key_file.fingerprint_of(OTHER))
    key_file.path_of(tmp_path).chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        key_file.read(tmp_path, key_file.fingerprint_of(key))
