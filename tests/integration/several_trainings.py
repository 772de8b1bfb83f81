"""Several trainings in one launch, which saves the start-up of each; started by horovodrun in test_training.py.

Takes a JSON list of argument lists, and prints a line with the exit status of each.
"""

import json
import os
import sys

from common import command
from training.parallel.communicator import Communicator
from training.parallel.horovod_backend import HorovodBackend
from training.train import main

if __name__ == "__main__":
    # Horovod can be started only once in a process: the ring stays until the last training is over.
    Communicator.stop = lambda self: None  # type: ignore[method-assign]
    for arguments in json.loads(sys.argv[1]):
        status = command.run(main, arguments)
        print(f"rank {os.environ['HOROVOD_RANK']} run {arguments[3]} status {status}", flush=True)
    HorovodBackend.leave()
