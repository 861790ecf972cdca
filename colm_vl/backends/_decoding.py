"""Turns scores into tokens and text, for batches in which each row has its own sampling, length limit and stream.

`Decoding` hooks into transformers' `generate` twice per step: `choose` draws the next token of each row, and `advance`
receives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from colm_vl.backends._grammar import Constraint, allowed
from colm_vl.backends.base import Sampling, TokenLogprob


class Detokenizer:
    """Decodes tokens to text incrementally. If a character spans several tokens, it is returned with the last."""

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []

    def push(self, token: int) -> str:
        piece: str | None = self._stream.step(self._tokenizer.backend_tokenizer, token)
        self._held = [] if piece is not None else [*self._held, token]
        return piece or ""

    def flush(self) -> str:
        """The remaining text, which may contain incomplete characters."""
        held, self._held = self._held, []
        return str(self._tokenizer.decode(held, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class Row:
    """One reply being generated. `on_piece` receives its text piece by piece. `gone` returns True if the caller no
    longer waits for it. `first_token` is the time of its first token, by the monotonic clock."""

    def __init__(
        self,
        sampling: Sampling,
        max_tokens: int,
        tokenizer: Any,
        on_piece: Callable[[str], None] | None,
        on_end: Callable[[Row], None],
        gone: Callable[[], bool],
        constraint: Constraint | None = None,
        letters: Callable[[int, Any], Mapping[str, float] | None] | None = None,
    ) -> None:
        """`letters` gives `TokenLogprob.letters`, from the token that was drawn and the log-probabilities of all tokens
        that were possible in its place."""
        self.constraint = constraint
        self.letters = letters
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.gone = gone
        self.ids: list[int] = []
        self.tokens: list[TokenLogprob] = []
        self.first_token = 0.0
        self.ended = False
        self.stopped_itself = False
        self._detokenizer = Detokenizer(tokenizer)
        self._on_piece = on_piece
        self._on_end = on_end

    @property
    def text(self) -> str:
        return "".join(token.token for token in self.tokens)

    def push(self, token: int, possible: Any, logprob: float, stops: frozenset[int]) -> None:
        if not self.ids:
            self.first_token = time.monotonic()
        self.ids.append(token)
        stop = token in stops
        # Under a schema, a reply also ends without a stop token if nothing can follow.
        self.stopped_itself = stop or (self.constraint is not None and self.constraint.take(token))
        self.ended = self.stopped_itself or len(self.ids) >= self.max_tokens
        piece = "" if stop else self._detokenizer.push(token)
        if self.ended:
            piece += self._detokenizer.flush()
        # Rounding can make the log-probability of a certain token slightly greater than 0.
        letters = self.letters(token, possible) if self.letters else None
        self.tokens.append(TokenLogprob(piece, min(logprob, 0.0), letters))
        if piece and self._on_piece:
            self._on_piece(piece)
        if self.ended:
            self._on_end(self)


class Decoding:
    """Rows that are generated together. `generate` must use greedy decoding: `choose` gives the highest score to the
    token that it drew."""

    def __init__(self, rows: Sequence[Row], stops: frozenset[int], torch: Any) -> None:
        self._rows = rows
        self._stops = stops
        self._torch = torch
        self._generators: dict[int, Any] = {}
        self._possible: Any = None
        self._wants_letters = any(row.letters for row in rows)
        self._chosen: Any = None

    def choose(self, input_ids: Any, scores: Any) -> Any:
        """Mask tokens that a row's schema does not allow, and add Gumbel noise to rows that sample, so that the highest
        score is a sample. Each row has its own generator: the same seed gives the same reply in any batch. The
        log-probabilities recorded are the model's own, without mask and noise."""
        torch = self._torch
        logprobs = torch.log_softmax(scores.float(), dim=-1)
        constraints = [None if row.ended else row.constraint for row in self._rows]
        drawn, possible = scores, logprobs
        if any(constraints):
            mask = torch.from_numpy(allowed(constraints, scores.shape[-1])).to(scores.device)
            drawn = scores.masked_fill(~mask, float("-inf"))
            possible = logprobs.masked_fill(~mask, float("-inf")) if self._wants_letters else logprobs
        sampled = [index for index, row in enumerate(self._rows) if row.sampling.temperature > 0 and not row.ended]
        if sampled and drawn is scores:
            drawn = scores.clone()
        for index in sampled:
            own = logprobs[index] if constraints[index] is None else drawn[index].float().log_softmax(dim=-1)
            drawn[index] = self._noisy(index, own, self._rows[index].sampling)
        chosen = drawn.argmax(dim=-1, keepdim=True)
        self._possible = possible
        self._chosen = logprobs.gather(1, chosen).squeeze(1)
        return drawn

    def advance(self, input_ids: Any, scores: Any) -> Any:
        """Add the drawn tokens, and return which rows have ended. Rows whose callers no longer wait count as ended."""
        tokens = input_ids[:, -1].tolist()
        for row, token, possible, logprob in zip(
            self._rows, tokens, self._possible, self._chosen.tolist(), strict=True
        ):
            if not row.ended and not row.gone():
                row.push(token, possible, logprob, self._stops)
        ended = [row.ended or row.gone() for row in self._rows]
        return self._torch.tensor(ended, dtype=self._torch.bool, device=input_ids.device)

    def _noisy(self, index: int, logprobs: Any, sampling: Sampling) -> Any:
        torch = self._torch
        scaled = logprobs / sampling.temperature
        if sampling.top_p < 1:
            ordered, places = torch.sort(scaled, descending=True)
            before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
            beyond = before > sampling.top_p  # never the first, which has no mass before it
            scaled = scaled.masked_fill(torch.zeros_like(beyond).scatter(0, places, beyond), float("-inf"))
        if index not in self._generators:
            generator = torch.Generator(device=scaled.device)
            if sampling.seed is None:
                generator.seed()
            else:
                generator.manual_seed(sampling.seed)
            self._generators[index] = generator
        return scaled - torch.empty_like(scaled).exponential_(generator=self._generators[index]).log()
