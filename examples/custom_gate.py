"""A gate of your own: a rule that decides from the drafts whether the server is asked.

python examples/custom_gate.py

A package can register the gate under a name, so that team files can use it. docs/extending.md says how, and how to
write a strategy.
"""

from collections.abc import Mapping

from colm_vl import ClientReply, CoLM, Decision, Gate, Team

TEAM = {
    "clients": [
        {
            "name": name,
            "backend": "scripted",  # replies from a script, so that this example needs no model
            "model": "script",
            "replies": [{"when": "seal", "text": f"Answer: {seal}"}, f"Answer: {total}"],
        }
        for name, seal, total in (("photos", "red", "41.50 EUR"), ("documents", "red", "41.50 EUR"))
    ],
    "server": {"backend": "scripted", "model": "script", "replies": ["Evidence: the last line says 47.50 EUR"]},
}


class AmountGate(Gate):
    """Ask the server about every amount of money of at least `amount`, and whenever the drafts differ."""

    amount: float

    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        answers = {reply.answer for reply in replies.values()}
        if len(answers) > 1:
            return Decision(True, "the drafts differ")
        largest = max((float(word) for word in answers.pop().split() if word.replace(".", "", 1).isdigit()), default=0)
        return Decision(largest >= self.amount, f"the largest amount is {largest:g}")


def main() -> None:
    with CoLM(Team.from_dict(TEAM)) as colm:
        for question in ("What is the colour of the seal?", "What is the total?"):
            for gate in ("always", AmountGate(amount=20), AmountGate(amount=100)):
                trace = colm.ask(question, gate=gate)
                (decision,) = trace.gates
                asked = "asked" if decision.asked else "skipped"
                print(f"{question:32} {gate!r:26} {asked:8} {len(trace.calls)} calls  {decision.reason}")


if __name__ == "__main__":
    main()
