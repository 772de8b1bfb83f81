"""Imports what the commands import, but Horovod, which may still be compiling.

A file of its own: of a `python -c` pyspark thinks that it runs doctests, and ends it.
"""

import importlib

for name in (
    "great_expectations",
    "torch.utils.tensorboard",
    "etl.pipeline",
    "etl.report",
    "training.evaluation.linear_baseline",
    "training.report",
):
    importlib.import_module(name)
