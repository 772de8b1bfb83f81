"""Import the modules that the commands import, except Horovod, which may still be compiling.

A file of its own: pyspark takes a `python -c` for a run of doctests, and ends it.
"""

import importlib

for name in (
    "great_expectations",
    "torch.utils.tensorboard",
    "etl.versions.building",
    "etl.report",
    "training.classification.baseline",
    "training.report",
):
    importlib.import_module(name)
