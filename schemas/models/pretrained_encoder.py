"""Encoder of texts in the Hugging Face layout, with the weights that it was published with."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.sections import NonEmpty, Positive, Section
from schemas.models import ModelSettings, Sha256, Start


class Architecture(Section):
    """Shape of a BERT-like encoder, and the special tokens of its tokenizer."""

    layers: Positive
    width: Positive
    heads: Positive
    feed_forward: Positive
    vocabulary: Positive
    positions: Positive
    token_types: Positive
    epsilon: Annotated[float, Field(gt=0)]
    """Term in the denominator of the normalisation."""
    activation: Literal["gelu", "relu"]
    before: list[int]
    """Ids of the special tokens before a text."""
    after: list[int]
    """Ids of those behind it."""
    tokenizer: Sha256
    """Hash of its tokenizer.json, which the data set must have been published with."""


class PretrainedEncoder(ModelSettings):
    """`[model] kind = "pretrained_encoder"`"""

    kind: Literal["pretrained_encoder"]
    folder: NonEmpty
    """Folder with `config.json`, `tokenizer.json` and `model.safetensors`."""
    sha256: Sha256 | None = None
    """Hash of `model.safetensors`."""
    prefix: str = ""
    """Beginning of the names of the encoder's tensors in that file, such as `bert.`."""
    pretrained: bool = True
    """False: begin with random weights of the same shape."""
    pooling: Literal["mean", "cls"] = "mean"
    """`mean`: of all tokens of a text with its special ones; `cls`: the first of these."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    architecture: Architecture | None = None
    """Filled in from the folder when a training begins, so that a checkpoint can be used without it."""

    @model_validator(mode="after")
    def _verified(self) -> Self:
        if self.sha256 is None and self.pretrained and self.start is None:
            raise ValueError(
                f"sha256 is missing: give what `sha256sum {self.folder}/model.safetensors` prints"
            )
        return self

    def first_weights(self) -> Start | None:
        """Return the file in the folder, unless `start` names something else."""
        if self.start is not None or not self.pretrained:
            return self.start
        return Start(
            file=f"{self.folder}/model.safetensors",
            sha256=self.sha256,
            tokenizer=f"{self.folder}/tokenizer.json",
            names={"body.*": f"{self.prefix}*"},
            complete=True,
        )
