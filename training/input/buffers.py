"""Memory of tensors that is used again.

Fresh memory costs more than all the copying: the kernel has to clear it, page by page.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

UNUSED = 3
"""References to an unused object: from the list, the loop's variable, and the call that counts them."""


class Buffers:
    """Buffers by name and dtype, of which each is given out again once no part of it is in use."""

    def __init__(self, kept: int, pinned: bool = False) -> None:
        """Keep up to `kept` buffers of a name; `pinned` takes page-locked memory from torch's own allocator instead,
        which keeps its memory too.
        """
        self.kept, self.pinned = kept, pinned
        self._buffers: dict[tuple[str, torch.dtype], list[npt.NDArray[Any]]] = {}

    def empty(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return memory of any content for (rows, *shape), if possible that of an earlier tensor of this name."""
        if self.pinned:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        buffers = self._buffers.setdefault((name, dtype), [])
        for buffer in buffers:
            # Every tensor over a buffer holds a reference to it: here only the list, the loop and the call do.
            if len(buffer) >= shape[0] and sys.getrefcount(buffer) == UNUSED:
                break
        else:
            # From numpy, which asks for huge pages: so reading takes two thirds of the processor time.
            buffer = np.empty(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype)
            if len(buffers) < self.kept:
                buffers.append(buffer)
        return torch.from_numpy(buffer[: shape[0]])
