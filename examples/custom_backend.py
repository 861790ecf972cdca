"""A backend of your own: any program that answers, here one that counts pixels, joins a team as a client.

python examples/custom_backend.py

A package can register the backend under a name, so that team files can use it: see docs/extending.md.
"""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from colm_vl import Backend, Capabilities, CoLM, Generation, Member, Options, Piece, Policy, Request, Team

PICTURES = Path(__file__).parent / "data" / "pictures"
COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 200), "purple": (140, 60, 170)}


class PixelCounter:
    """Names the commonest of some colours. `step`: it looks at every such pixel only."""

    def __init__(self, step: int) -> None:
        self._step = step

    async def generate(self, request: Request) -> Generation:
        picture = request.images[-1].pil().resize((84 // self._step, 84 // self._step))
        nearest = Counter(nearest_colour(pixel) for pixel in picture.get_flattened_data())
        ranked = [(count, colour) for colour, count in nearest.most_common() if colour]
        if not ranked:
            return Generation("Caption: no colour\nAnswer: I do not know")
        count, colour = ranked[0]
        certain = round(100 * count / sum(count for count, _ in ranked))
        return Generation(f"Caption: {count} pixels are {colour}\nAnswer: {colour}\nConfidence: {certain}")

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        generation = await self.generate(request)
        yield generation.text  # any number of pieces
        yield generation  # last, the whole reply

    async def capabilities(self) -> Capabilities:
        return Capabilities(logprobs=False)

    async def aclose(self) -> None: ...


def nearest_colour(pixel: tuple[int, int, int]) -> str:
    """The nearest of COLOURS, or "" for grey, white and black."""
    if max(pixel) - min(pixel) < 60:
        return ""
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], pixel, strict=True)))


def main() -> None:
    steps = {"fine": 1, "coarse": 6, "coarser": 14}
    clients = tuple(Member(name, "client", "pixels", Options(model=f"every {step}")) for name, step in steps.items())
    backends: dict[str, Backend] = {name: PixelCounter(step) for name, step in steps.items()}
    with CoLM(Team(clients, policy=Policy(strategy="vote")), backends=backends) as colm:
        for name in ("shapes-6", "charts-14", "counting-7"):
            trace = colm.ask("Which colour is the commonest?", images=[PICTURES / f"{name}.png"])
            drafts = ", ".join(f"{draft.client} {draft.answer}" for draft in trace.drafts)
            print(f"{name:12} {trace.answer:8} ({drafts})")


if __name__ == "__main__":
    main()
