"""Language models: each token of packed rows from those before it in the row, and an n-gram model beside the model.

A separator stands before each row, so that each token of a split is predicted exactly once: also the first of a row,
from the separator alone. A separator at the end of a document is predicted like any token, and says that it ends.
"""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch.nn import functional

from common.errors import UsageError
from common.pages.page import ReportSection
from common.progress import Progress, log
from provenance.keys import record_key, record_keys
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.objectives.next_token import NextToken as Settings
from training.comparison.assessment import RowResults
from training.comparison.statistics import Floats
from training.input.batch_loader import LocalBatch
from training.language import continuations
from training.language.continuations import PARTS, Prompt, Verbatim, chosen_prompts, decoded
from training.language.documents import (
    Ints,
    Sums,
    add_rows,
    documents,
    read_packed_rows,
    token_column,
    tokenizer_of,
)
from training.language.generation import Names, Sampling, continued
from training.language.kneser_ney import KneserNey
from training.objectives import Judgement, Objective, Outputs, Terms

LOGITS, NATS = "logits", "nats"
PADDING = 0
MOST_LOGITS = 1 << 24
"""Logits of a slice of a batch, 64 MiB, where no gradient needs all of them."""
LOWER_IS_BETTER = frozenset({"perplexity", "bits_per_byte", "verbatim_share"})
TEST = "test"


MOST_NATS = 700.0
"""Mean loss whose perplexity is still a float."""


def perplexity(loss: float) -> float:
    """Return e to a mean loss in nats; infinity where that is beyond a float."""
    return math.inf if loss > MOST_NATS else math.exp(loss)


class NextToken(Objective):
    """The next token of each row; units are tokens."""

    needs = frozenset({"documents"})
    weighted = True
    judged_by_ids = True
    of_loss = MappingProxyType({"perplexity": perplexity})

    def __init__(self, config: Configuration, manifest: Manifest, device: torch.device) -> None:
        super().__init__(config, manifest, device)
        assert isinstance(config.objective, Settings)
        column = token_column(manifest)
        assert column.vocabulary is not None
        assert column.separator is not None
        self.settings, self.separator = config.objective, column.separator
        self.outputs = {LOGITS: column.vocabulary}
        self.names = Names(column.name, LOGITS, column.shape[0], column.separator)

    def terms(self, model: nn.Module, batch: LocalBatch) -> Terms:
        tokens = batch.features[self.names.feature]
        loss = torch.cat(list(self._losses(model, tokens))).reshape(-1)
        return Terms(loss, (tokens != PADDING).reshape(-1).to(loss.dtype))

    def _losses(self, model: nn.Module, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the loss of each token, (rows, length), for as many rows at a time as memory should hold."""
        size = len(tokens)
        if not torch.is_grad_enabled():
            size = max(1, MOST_LOGITS // (tokens.shape[1] * self.outputs[LOGITS]))
        for rows in torch.split(tokens, size):
            before = torch.cat((torch.full_like(rows[:, :1], self.separator), rows[:, :-1]), dim=1)
            logits = model({self.names.feature: before})[LOGITS]
            if logits.shape[:-1] != rows.shape:
                raise UsageError(
                    f"objective.kind = {self.settings.kind!r} needs a model that tells the next token after each token "
                    f"of a row, such as transformer_decoder; {self.config.model.kind!r} tells one thing a row"
                )
            yield functional.cross_entropy(
                logits.flatten(0, 1), rows.flatten().long(), reduction="none"
            ).view_as(rows)

    def predict(self, model: nn.Module, batch: LocalBatch) -> Outputs:
        return {NATS: torch.cat(list(self._losses(model, batch.features[self.names.feature])))}

    def judge(self) -> "DocumentJudge":
        return DocumentJudge(self.names.feature)

    def examined(self, model: nn.Module, found: Judgement) -> Judgement:
        prompts = self._prompts()
        with Progress("continuing", len(prompts), "texts") as progress:
            written = self._continuations(model, prompts)
            progress.update(len(prompts))
        return self._with_continuations(found, prompts, written)

    def _continuations(self, model: nn.Module, prompts: list[Prompt]) -> list[list[int]]:
        if not prompts:
            return []
        given, most = [one.tokens.tolist() for one in prompts], self.settings.continuation_tokens
        return continued(model, self.names, given, most, Sampling())

    def _prompts(self) -> list[Prompt]:
        if not self.settings.prompts:
            return []
        split = list(documents(self.manifest, TEST, self.config.storage))
        keys = {name: record_key(name) for name, _ in split}
        one = self.settings
        return chosen_prompts(split, keys, one.prompts, one.prompt_tokens, one.continuation_tokens)

    def _with_continuations(
        self, found: Judgement, prompts: list[Prompt], written: list[list[int]]
    ) -> Judgement:
        """Add the scores of continuations to a judgement by document."""
        if not prompts:
            log("no continuations: no document of the test split is long enough, or objective.prompts is 0")
            return found
        tokenizer, storage = tokenizer_of(self.manifest, self.config.storage), self.config.storage
        texts, truths = (
            tokenizer.decode_batch(ids) for ids in (written, [one.truth.tolist() for one in prompts])
        )
        verbatim = Verbatim([*texts, *truths], self.settings.verbatim_words)
        train = documents(self.manifest, "train", storage)
        verbatim.look_in(decoded(tokenizer, (ids for _, ids in train)))
        counts = verbatim.counts()
        of_texts, of_truths = counts[: len(texts)], counts[len(texts) :]
        results = found.results
        assert results is not None
        parts = results.parts.toarray()
        place = {key.tobytes(): row for row, key in enumerate(results.keys)}
        mine = [place[record_key(one.record_id)] for one in prompts]
        parts[mine, 3:] = continuations.sums(texts, truths, of_texts)
        examples = [
            {
                "record_id": one.record_id,
                "prompt": tokenizer.decode(one.tokens.tolist()),
                "truth": truth,
                "text": text,
            }
            for one, truth, text in zip(prompts, truths, texts, strict=True)
        ]
        shares = {"verbatim_share_of_truth": _share(of_truths)}
        return _judgement(results.keys, parts, {**found.details, **shares, "continuations": examples})

    def baselines(self) -> dict[str, Judgement]:
        settings = self.settings
        stream = self._training_tokens(settings.ngram_tokens)
        log(f"baseline: n-grams of up to {settings.ngram_order} tokens, from {len(stream):,} tokens")
        model = KneserNey(stream, self.outputs[LOGITS], settings.ngram_order, self.separator)
        sums: dict[str, Sums] = {}
        for part in read_packed_rows(self.manifest, TEST, self.config.storage):
            add_rows(sums, model.nats(part.tokens), part.documents)
        details = {"order": settings.ngram_order, "learned_tokens": len(stream)}
        prompts = self._prompts()
        written = [model.greedy(one.tokens, settings.continuation_tokens) for one in prompts]
        return {"ngram": self._with_continuations(of_documents(sums, details), prompts, written)}

    def _training_tokens(self, most: int) -> Ints:
        """Return the first tokens of the training split, reading no more row groups than hold them."""
        parts, found = [np.zeros(0, np.int64)], 0
        for rows in read_packed_rows(self.manifest, "train", self.config.storage):
            parts.append(rows.tokens[rows.tokens != PADDING])
            found += len(parts[-1])
            if found >= most:
                break
        return np.concatenate(parts)[:most]

    @classmethod
    def sections(cls, manifest: Manifest, evaluation: dict[str, Any] | None) -> list[ReportSection]:
        from training.language import sections  # only reports need it

        return sections.sections(manifest, evaluation)


class DocumentJudge:
    """Judge that sums the losses of the tokens of each document."""

    def __init__(self, feature: str) -> None:
        self.feature, self.sums = feature, dict[str, Sums]()

    def add(self, batch: LocalBatch, outputs: Outputs) -> None:
        assert batch.documents is not None
        nats = torch.where(batch.features[self.feature] == PADDING, 0.0, outputs[NATS])
        add_rows(self.sums, nats.double().numpy(), batch.documents.tolist())

    def judgement(self) -> Judgement:
        return of_documents(self.sums, {})


def of_documents(sums: Mapping[str, Sums], details: dict[str, Any]) -> Judgement:
    """Return the judgement of a model by the losses of documents, in the order of their ids."""
    names = sorted(sums)
    parts = np.zeros((len(names), 3 + PARTS))
    parts[:, :3] = np.array([(sums[one].nats, sums[one].tokens, sums[one].bytes) for one in names]).reshape(
        -1, 3
    )
    return _judgement(record_keys(names), parts, details)


def _judgement(keys: Any, parts: Floats, details: dict[str, Any]) -> Judgement:
    results = RowResults(
        keys, np.arange(len(keys)), sparse.csr_matrix(parts), figures, lower_is_better=LOWER_IS_BETTER
    )
    found = {name: float(values[0]) for name, values in figures(parts.sum(axis=0)[None]).items()}
    if not parts[:, -3].sum():  # nothing was continued
        found = {name: value for name, value in found.items() if name in ("perplexity", "bits_per_byte")}
    totals = {"tokens": int(parts[:, 1].sum()), "bytes": int(parts[:, 2].sum())}
    return Judgement(len(keys), found, {**details, **totals}, results)


def figures(added: Floats) -> dict[str, Floats]:
    """Return perplexity, bits per byte and the scores of continuations from sums (n, parts): (n,) each.

    The separators' losses count in the bits, and no bytes for them.
    """
    nats, tokens, size = added[:, 0], added[:, 1], added[:, 2]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = {"perplexity": np.exp(nats / tokens), "bits_per_byte": nats / math.log(2) / size}
    return {**found, **continuations.figures(added[:, 3:])}


def _share(counts: list[tuple[int, int]]) -> float:
    return sum(found for found, _ in counts) / max(1, sum(whole for _, whole in counts))
