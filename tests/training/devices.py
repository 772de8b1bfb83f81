"""Devices that the tests of training can use here: a machine with a GPU runs more of them."""

import horovod.torch as hvd
import torch

HAS_GPU = torch.cuda.is_available()
DEVICES = ["cpu", "cuda"] if HAS_GPU and hvd.cuda_built() else ["cpu"]
"""Devices that Horovod can send from."""
# NCCL wants a GPU of its own for each rank; otherwise Horovod sends through host memory.
_suffice = torch.cuda.device_count() > 1 or not hvd.nccl_built()
OF_TWO = DEVICES if _suffice else ["cpu"]
"""Devices for the models of two ranks."""
FOR_TWO: dict[str, str] = {} if _suffice else {"CUDA_VISIBLE_DEVICES": "-1"}
"""Environment in which two ranks can be started."""
