"""Detects when the guarantee of a calibrated gate no longer holds: a sequential test on audited questions.

An audited question is one that the gate would have skipped and for which the server was asked anyway
(`policy.audit`). If the server changes the answers of such questions more often than in the calibration, the questions
are no longer like those of the calibration. The test can be evaluated after every question: its evidence is an
e-process, a mixture of bets against the limit, so the probability of an alarm without drift is at most `ALPHA` however
often it is evaluated (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024).
"""

from __future__ import annotations

from colm_vl.answers import Ballot, is_answer, same, vote
from colm_vl.types import Draft, Trace

ALPHA = 0.05
_BETS = tuple(number / 10 for number in range(1, 10))
"""As shares of the largest possible bet."""


class DriftTest:
    """Tests "at most the share `limit` of audited questions change their answer", question by question."""

    def __init__(self, limit: float) -> None:
        self.limit = min(max(limit, 1e-6), 1 - 1e-6)
        self.audited = 0
        self.changed = 0
        self.most = 1.0
        """The greatest evidence so far, as a factor of belief in drift."""
        self._capital = [1.0] * len(_BETS)

    def add(self, changed: bool) -> None:
        self.audited += 1
        self.changed += changed
        for number, bet in enumerate(_BETS):
            self._capital[number] *= 1 + bet / self.limit * (changed - self.limit)
        self.most = max(self.most, sum(self._capital) / len(_BETS))

    @property
    def alarm(self) -> bool:
        """Whether there is enough evidence that the limit is exceeded."""
        return self.most >= 1 / ALPHA


def is_audited(trace: Trace) -> bool:
    """Whether the gate would have skipped the server in the first round, and it was asked anyway."""
    return bool(trace.gates) and trace.gates[0].shadow and bool(trace.guidance)


def is_changed(trace: Trace) -> bool:
    """Whether the answer differs from the one that the drafts alone settle on."""
    draft = settled_draft(trace)
    if draft is None or trace.settlement is None:
        return draft is not None or trace.settlement is not None
    return not same(draft.choice or draft.answer, trace.choice or trace.answer)


def settled_draft(trace: Trace) -> Draft | None:
    """The draft whose answer the question would have been settled on without the server, or None if there is none."""
    readable = [draft for draft in trace.drafts if draft.readable]
    if trace.settlement and trace.settlement.method == "asker":
        own = next((draft for draft in readable if draft.client in trace.settlement.by), None)
        if own is not None and (is_answer(own) or not any(map(is_answer, readable))):
            return own
    counted = vote(Ballot(draft.client, draft.choice or draft.answer, draft.confidence) for draft in readable)
    if counted is None:
        return None
    return next(draft for draft in readable if (draft.choice or draft.answer) == counted.winner)
