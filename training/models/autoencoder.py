"""An autoencoder over the columns of a table (Hinton and Salakhutdinov, *Science* 313, 2006).

Trained on normal rows alone, it gives other rows back badly, which makes its error a score of anomaly.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from schemas.manifest import Column
from schemas.models.autoencoder import Autoencoder as Settings
from training.models import by_head
from training.models.mlp import Columns, connected

HEADS = "output."
"""Beginning of the names of the tensors above the body."""


def build(settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the autoencoder; see `training.models.build`. Raises UsageError as `training.models.mlp.Columns` does."""
    return Autoencoder(settings, features, outputs)


class Autoencoder(nn.Module):
    """Columns → `widths` → `bottleneck` numbers → `widths` in reverse → heads."""

    def __init__(self, settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.columns = Columns(settings.kind, features, settings.embedding)
        self.encoder = connected([self.columns.width, *settings.widths])
        # Linear, so that the code is not bound to one side of zero.
        self.squeeze = nn.Linear(settings.widths[-1], settings.bottleneck)
        self.decoder = connected([settings.bottleneck, *reversed(settings.widths)])
        self.heads = dict(outputs)
        self.output = nn.Linear(settings.widths[0], sum(self.heads.values()))

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map columns by name to (n, size) float32 by head."""
        code = self.squeeze(self.encoder(self.columns(features)))
        return by_head(self.output(self.decoder(code)), self.heads)


def layers(model: Autoencoder) -> list[nn.Module]:
    """Return the hidden layers before and behind the bottleneck."""
    return [model.encoder, model.decoder]
