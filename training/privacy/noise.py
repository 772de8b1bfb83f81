"""Gaussian noise that nobody without its key can compute again.

The key comes from the entropy of the operating system. SHAKE-256 (FIPS 202), an extendable-output function, turns the
key, what the training is, the step and the number of a block of coordinates into the bits from which Box and Muller's
transform makes the noise. Each coordinate of a step's sum gets the same noise on however many ranks: one of them adds
it. A step that is repeated, after an interruption and perhaps by fewer ranks, therefore shows no second noise, the
difference of which would tell more than was accounted for. What the training is (data, settings, the weights
with which it came to these data) enters, so that a copied run that goes another way does not use the noise again.

Not covered: an attacker who sees single bits of the results and knows the arithmetic of floating point (Mironov 2012,
"On Significance of the Least Significant Bits for Differential Privacy"), nor one who measures times. The noise has 53
random bits and ends at 8.6 deviations.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt
import torch

BLOCK = 1 << 14
"""Coordinates whose noise is made at once, by one rank."""
KEY_BYTES = 32


class Noise:
    """Noise of a training, by step and coordinate."""

    def __init__(self, key: bytes, training: bytes) -> None:
        """Bind a key of KEY_BYTES to a training: its data and settings."""
        self.seed = hashlib.sha256(b"ringlake noise 1" + key + hashlib.sha256(training).digest()).digest()

    def add(self, sums: torch.Tensor, deviation: float, step: int, rank: int = 0, ranks: int = 1) -> None:
        """Add this rank's share of the noise of a step to its sums (n,): that of every `ranks`-th block."""
        for block in range(rank, -(-len(sums) // BLOCK), ranks):
            part = sums[block * BLOCK : (block + 1) * BLOCK]
            made = torch.from_numpy(deviation * self.normal(step, block)[: len(part)])
            part += made.to(part.device, part.dtype)

    def normal(self, step: int, block: int) -> npt.NDArray[np.float64]:
        """Return (BLOCK,) independent standard normal numbers."""
        stream = hashlib.shake_256(self.seed + step.to_bytes(8, "little") + block.to_bytes(8, "little"))
        bits = np.frombuffer(stream.digest(8 * BLOCK), dtype="<u8").reshape(2, -1)
        # In the middle of 2^53 intervals: never 0, whose logarithm is none.
        uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53
        radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * math.pi * uniform[1]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
