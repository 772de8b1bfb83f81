"""`[model]`: one module a kind, with the keys of that kind."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from common.sections import NonEmpty, Section, of_form

Sha256 = Annotated[str, of_form(r"[0-9a-f]{64}", "the 64 hexadecimal digits of a SHA-256")]


def _alike(names: dict[str, str]) -> dict[str, str]:
    for ours, theirs in names.items():
        if not ours.count("*") == theirs.count("*") <= 1:
            raise ValueError(f"{ours!r} and {theirs!r} must both have one *, or none")
    return names


class Start(Section):
    """`[model.start]`: first weights, of a run or of a file. `start = "runs/x"` is short for `{ run = "runs/x" }`."""

    run: NonEmpty | None = None
    """Folder of a run, whose best checkpoint is taken."""
    file: NonEmpty | None = None
    """File of safetensors."""
    sha256: Sha256 | None = None
    """Hash of the file."""
    tokenizer: NonEmpty | None = None
    """`tokenizer.json` that gave the token ids which the weights of the file learned from."""
    names: Annotated[dict[NonEmpty, NonEmpty], AfterValidator(_alike)] = {}
    """Names of tensors here = there, also of many by a `*` on both sides; without an entry both have the same name."""
    part: Literal["body", "all"] = "body"
    """`body`: all below the heads; `all`: the heads too."""
    complete: bool = False
    """Refuse to begin where a tensor of the part is not among theirs."""

    @model_validator(mode="after")
    def _of_one_place(self) -> Self:
        if (self.run is None) == (self.file is None):
            raise ValueError("give either the run or the file of the first weights")
        if self.file is not None and self.sha256 is None:
            raise ValueError(f"sha256 is missing: give what `sha256sum {self.file}` prints")
        if self.file is None and (self.sha256 or self.tokenizer):
            raise ValueError("sha256 and tokenizer belong to a file; a run has its own")
        return self

    @model_serializer(mode="wrap")
    def _given(self, dump: SerializerFunctionWrapHandler) -> Any:
        """Return the keys that are set; of a run without others its folder, as versions before these keys did."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        found = {key: value for key, value in dump(self).items() if value != defaults[key]}
        return found["run"] if list(found) == ["run"] else found


def _as_table(value: Any) -> Any:
    return {"run": value} if isinstance(value, str) else value


class ModelSettings(Section):
    """Keys that every `[model]` has."""

    kind: str
    checkpoint_layers: bool = False
    """Keep only what goes into each layer for backward, and compute the rest of it again: less memory, more time (Chen
    et al. 2016, activation checkpointing).
    """
    start: Annotated[Start | None, BeforeValidator(_as_table)] = None
    """First weights, in place of random ones: the folder of a run, or a table."""

    def first_weights(self) -> Start | None:
        """Return where the first weights come from; None: they are random."""
        return self.start
