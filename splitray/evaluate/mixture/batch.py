"""Rows of text that a mixture reads together."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from splitray.evaluate.mixture.returns import CONTEXT, MARGIN, SHARE, WINDOW, Returns
from splitray.evaluate.mixture.weights import BAYES, Gate, Update, advance, normalised

_UNDECIDED = 16  # tokens of a piece while more than one model may stop


class RunningModel:
    """A causal LM that reads rows piece by piece, and lets go of rows that need it no more.

    A model whose cache cannot drop rows (a recurrent one) reads its rows anew for every piece.

    Args:
        model: a `transformers` causal LM.
        rows: which rows of the batch it starts with, int64 [rows].
    """

    def __init__(self, model: Any, rows: torch.Tensor) -> None:
        self.model, self.rows = model, rows
        self._cache: Any = None
        self._cached = True
        self._tokens: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None
        self._positions = "position_ids" in inspect.signature(model.forward).parameters

    def keep(self, live: torch.Tensor) -> None:
        """Go on with some of the rows only: `live` is bool [rows]."""
        if bool(live.all()):
            return
        index = live.nonzero().squeeze(1)
        self.rows = self.rows[index]
        self._mask = None if self._mask is None else self._mask[index]
        self._tokens = None if self._tokens is None else self._tokens[index]
        if self._cache is not None:
            self._cache.batch_select_indices(index)

    @torch.inference_mode()
    def read(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Next-token log-probabilities after each of the new tokens, fp32 [rows, new, vocabulary].

        Args:
            tokens: int64 [rows, new], the continuation of what was read before.
            mask: int64 [rows, new], 0 for padding on the left of a row; None where no row of the batch is padded.
        """
        new = tokens.shape[1]
        self._tokens = tokens if self._tokens is None else torch.cat([self._tokens, tokens], dim=1)
        fed = tokens if self._cache is not None else self._tokens
        arguments: dict[str, Any] = {"input_ids": fed, "use_cache": self._cached}
        if mask is not None:
            self._mask = mask if self._mask is None else torch.cat([self._mask, mask], dim=1)
            arguments["attention_mask"] = self._mask
            if self._positions:
                arguments["position_ids"] = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -fed.shape[1] :]
        if self._cache is not None:
            arguments["past_key_values"] = self._cache
        out = self.model(**arguments)
        if self._cached:
            cache = getattr(out, "past_key_values", None)
            self._cached = hasattr(cache, "batch_select_indices")
            self._cache = cache if self._cached else None
        return torch.log_softmax(out.logits[:, -new:].float(), dim=-1)


@dataclass(frozen=True)
class Read:
    """What a model expects after each token of a piece: fp32 [rows, tokens, vocabulary] for some rows of the batch."""

    model: int
    rows: torch.Tensor
    log_probabilities: torch.Tensor


class Batch:
    """The models' weights for each row, and the models that still run for it.

    Args:
        models: `transformers` causal LMs.
        log_weights: before the first token, float64 [rows, models]; the gate may close some at once.
        update: how the weights move.
        piece: tokens that a model reads at once, at most.
    """

    def __init__(
        self, models: Sequence[Any], log_weights: np.ndarray, gate: Gate, update: Update = BAYES, piece: int = 64
    ) -> None:
        self.gate, self.update, self.log_weights = gate, update, gate.close(log_weights)
        self._members, self._piece = list(models), piece
        self._device = next(models[0].parameters()).device
        count = len(log_weights)
        self._returns = Returns(count, gate.recheck) if gate.recheck > 0 and len(models) > 1 else None
        self._text, self._shown = (np.zeros((count, 0), dtype=np.int64) for _ in range(2))  # the latest tokens
        self.reads = np.zeros((count, 0), dtype=np.int64)
        self.begin_window()

    def begin_window(self) -> None:
        """What was read so far is context no more; the weights go on."""
        self._in_window = 0
        self._running: list[tuple[int, RunningModel]] = []
        for place, model in enumerate(self._members):
            if len(rows := np.flatnonzero(np.isfinite(self.log_weights[:, place]))):
                self._running.append((place, RunningModel(model, self._moved(rows))))

    @property
    def weights(self) -> np.ndarray:
        """Float64 [rows, models]; 0 for a model that has stopped."""
        weights: np.ndarray = np.exp(self.log_weights)
        return weights

    def read(self, tokens: np.ndarray, mask: np.ndarray | None, live: np.ndarray) -> list[Read]:
        """Read a piece by every model that has a weight. `reads` counts how often each token was read, by any.

        Args:
            tokens: int64 [rows, tokens].
            mask: as of `RunningModel.read`.
            live: rows that still matter, bool [rows]; the others are not read any more, now or later.
        """
        self._drop(live)
        self._ask(tokens[:, 0], live)
        counts = np.zeros_like(tokens)
        reads = []
        for place, model in self._running:
            rows = model.rows.cpu().numpy()
            counts[rows] += 1
            found = model.read(self._moved(tokens[rows]), None if mask is None else self._moved(mask[rows]))
            reads.append(Read(place, model.rows, found))
        self._keep(tokens, np.ones_like(tokens) if mask is None else mask, counts)
        return reads

    def ahead(self, live: np.ndarray) -> int:
        """Tokens that are read in one piece, at most; `live` as of `read`.

        Pieces are short where several models run for a row: a model that stops reads its piece to the end.
        """
        several = bool((np.isfinite(self.log_weights[live]).sum(axis=1) > 1).any())
        most = min(self._piece, _UNDECIDED) if several and self.gate.closes else self._piece
        return most if self._returns is None else min(most, self._returns.ahead(live))

    def _drop(self, live: np.ndarray) -> None:
        """Let go of the rows that a model has stopped for, and of those that matter no more."""
        wanted = self._moved(np.isfinite(self.log_weights) & live[:, None])
        for place, model in self._running:
            model.keep(wanted[model.rows, place])
        self._running = [(place, model) for place, model in self._running if len(model.rows)]

    def _keep(self, tokens: np.ndarray, shown: np.ndarray, counts: np.ndarray) -> None:
        self.reads = np.hstack([self.reads, counts])
        self._text = np.hstack([self._text, tokens])[:, -CONTEXT:]
        self._shown = np.hstack([self._shown, shown])[:, -CONTEXT:]
        self._in_window += tokens.shape[1]

    def _ask(self, ahead: np.ndarray, live: np.ndarray) -> None:
        """Ask stopped models of the latest tokens, where it is time; who comes back reads on from here.

        Args:
            ahead: the token that is read next, known already, int64 [rows].
        """
        if self._returns is None or not (asked := self._returns.due & live).any():
            return
        stopped = ~np.isfinite(self.log_weights)
        inputs = self._text[:, -WINDOW:]
        targets = np.column_stack([inputs[:, 1:], ahead])
        back, before = np.zeros_like(stopped), self.reads.sum(axis=1)
        for place, member in enumerate(self._members):
            rows = np.flatnonzero(asked & stopped[:, place])
            if not len(rows):
                continue
            known = RunningModel(member, self._moved(rows)).read(self._moved(inputs[rows]), None)
            found = known.gather(2, self._moved(targets[rows])[:, :, None]).double().sum(dim=(1, 2))
            nats = np.zeros(len(asked))
            nats[rows] = -found.cpu().numpy()
            self.reads[rows, -WINDOW:] += 1
            back[rows, place] = self._returns.gains(nats)[rows] > MARGIN
            self._resume(place, np.flatnonzero(back[:, place]))
        self.log_weights = normalised(np.where(back, np.log(SHARE), self.log_weights))
        self._returns.plan(asked, self.reads.sum(axis=1) - before)

    def _resume(self, place: int, rows: np.ndarray) -> None:
        """Have a model run again for some rows, after it has read their latest tokens."""
        if not len(rows):
            return
        model = RunningModel(self._members[place], self._moved(rows))
        width = min(self._in_window, CONTEXT)
        first = self._text.shape[1] - width
        padded = not self._shown[rows, first:].all()
        for begin in range(first, first + width, self._piece):
            columns = slice(begin, min(begin + self._piece, first + width))
            shown = self._moved(self._shown[rows, columns]) if padded else None
            model.read(self._moved(self._text[rows, columns]), shown)
        self.reads[rows, self.reads.shape[1] - width :] += 1
        self._running.append((place, model))

    def _moved(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def nats(self, reads: list[Read], targets: np.ndarray) -> np.ndarray:
        """Loss of each target under each model that read its row, float64 [rows, tokens, models]; 0 for the others.

        Args:
            targets: the token after each that was read, int64 [rows, tokens].
        """
        goal = self._moved(targets)
        nats = np.zeros((*targets.shape, self.log_weights.shape[1]))
        for read in reads:
            found = read.log_probabilities.gather(2, goal[read.rows][:, :, None]).squeeze(2)
            nats[read.rows.cpu().numpy(), :, read.model] = -found.double().cpu().numpy()
        return nats

    def mixed(self, reads: list[Read]) -> torch.Tensor:
        """The mixture's log-probabilities of the next token, float64 [rows, vocabulary]; -inf for rows not read."""
        if len(self._members) == 1 and len(reads[0].rows) == len(self.log_weights):
            return reads[0].log_probabilities[:, -1].double().cpu()
        log_weights = torch.from_numpy(self.log_weights).to(self._device)
        vocabulary = reads[0].log_probabilities.shape[2]
        total = torch.full((len(log_weights), vocabulary), -torch.inf, dtype=torch.float64, device=self._device)
        for read in reads:
            part = log_weights[read.rows, read.model][:, None] + read.log_probabilities[:, -1].double()
            total[read.rows] = torch.logaddexp(total[read.rows], part)
        return total.cpu()

    def likeliest(self, reads: list[Read], weights: np.ndarray) -> np.ndarray:
        """The token that the mixture holds likeliest after each that was read, int64 [rows, tokens].

        Args:
            weights: of the models at each place, [rows, tokens, models].
        """
        share = torch.from_numpy(weights).to(self._device, torch.float32)
        vocabulary = reads[0].log_probabilities.shape[2]
        total = torch.zeros((*weights.shape[:2], vocabulary), device=self._device)
        for read in reads:
            total[read.rows] += share[read.rows][:, :, read.model, None] * read.log_probabilities.exp()
        found: np.ndarray = total.argmax(2).cpu().numpy()
        return found

    def follow(self, nats: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Move the weights past one token; returns the mixture's loss of it, float64 [rows].

        Args:
            nats: [rows, models].
            rows: those that have this token, bool [rows]; the weights of the others stay.
        """
        loss, after = advance(self.log_weights, nats, self.gate, self.update)
        self.log_weights = np.where(rows[:, None], after, self.log_weights)
        if self._returns is not None:
            self._returns.observe(loss, rows)
        return loss
