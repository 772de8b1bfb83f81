"""Local steps between synchronisations."""

from typing import Literal

from common.sections import Positive
from schemas.methods import MethodSettings


class LocalSgd(MethodSettings):
    """`[method] kind = "local_sgd"`: each rank steps on its own rows, and weights are averaged now and then.

    Local SGD as in Stich 2019.
    """

    kind: Literal["local_sgd"] = "local_sgd"
    synchronise_every: Positive = 4
    """Steps between two synchronisations; there is one at the end of each epoch as well."""
    optimizer_state: Literal["average", "keep"] = "average"
    """State of the optimizer at a synchronisation: averaged as the weights are, or left to each rank."""
