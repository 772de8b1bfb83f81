"""The environments of the peers in this comparison. They link the torch of this product, so that they cost no second,
third and sixth copy of it and all loaders fill tensors of the same library.
"""

import re
from pathlib import Path

from benchmarks.environments import Environments

PEERS = Environments(Path(__file__).parent, re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$"), ("torch",))
python_of = PEERS.python_of
version_of = PEERS.version_of
