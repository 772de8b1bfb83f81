"""Virtual environments of the peers in this comparison.

They link the torch of this product, which saves copies and makes all loaders fill tensors of the same library.
"""

import re
from pathlib import Path

from benchmarks.environments import Environments

PEERS = Environments(Path(__file__).parent, re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$"), ("torch",))
python_of = PEERS.python_of
version_of = PEERS.version_of
