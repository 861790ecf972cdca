"""A chat-completions endpoint on loopback that answers from a script, faults included.

    with Endpoint(["Answer: blue", Fault("rate_limited", retry_after="1"), "Answer: red"]) as endpoint:
        ...  # ask at endpoint.base_url
    assert endpoint.seen[0].text == "Which colour?"

It runs in its own threads, so that synchronous tests, async tests and child processes can use it.
"""

from tests.endpoint.script import Answer, Fault, FaultKind, Reply, Seen
from tests.endpoint.server import Endpoint

__all__ = ["Answer", "Endpoint", "Fault", "FaultKind", "Reply", "Seen"]
