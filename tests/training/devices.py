"""What the tests of training can run on here: a machine with a GPU runs more of them."""

import horovod.torch as hvd
import torch

HAS_GPU = torch.cuda.is_available()
DEVICES = ["cpu", "cuda"] if HAS_GPU and hvd.cuda_built() else ["cpu"]
"""What Horovod sends from."""
# NCCL wants a GPU of its own for each rank; without it Horovod sends through the memory of the host.
_suffice = torch.cuda.device_count() > 1 or not hvd.nccl_built()
OF_TWO = DEVICES if _suffice else ["cpu"]
"""Where the models of two ranks can lie."""
FOR_TWO: dict[str, str] = {} if _suffice else {"CUDA_VISIBLE_DEVICES": "-1"}
"""The environment in which two ranks can be started."""
