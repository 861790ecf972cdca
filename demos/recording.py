"""Records the moving picture of the page in docs/page.gif.

    python -m demos.recording http://127.0.0.1:7860

Asks an example question in headless Chromium. Needs the packages that `make test-browser` installs.
"""

from __future__ import annotations

import base64
import io
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import PIL.Image
import PIL.ImageChops
import typer

FILE = Path(__file__).parents[1] / "docs" / "page.gif"
COLOURS = 128
HELD_SECONDS = 4.0
"""How long the finished question is shown before the picture begins again."""


@dataclass(frozen=True, slots=True)
class Frame:
    picture: PIL.Image.Image
    seconds: float


def record(
    url: Annotated[str, typer.Argument(help="The page's URL.")],
    file: Annotated[Path, typer.Argument(help="The GIF file.")] = FILE,
    example: Annotated[int, typer.Option(help="The number of the example to ask, from 0.")] = 0,
    slower: Annotated[float, typer.Option(help="How many times slower than it was the question is shown.")] = 1.0,
    width: Annotated[int, typer.Option(help="Width of the window, in CSS pixels.")] = 1100,
    height: Annotated[int, typer.Option(help="Height of the window, in CSS pixels.")] = 820,
) -> None:
    """Ask an example question and record the page until it is answered."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        frames = [replace(frame, seconds=slower * frame.seconds) for frame in _distinct(_frames(page, url, example))]
        browser.close()
    frames[-1] = replace(frames[-1], seconds=HELD_SECONDS)
    _write(frames, file)


def _frames(page: Any, url: str, example: int) -> list[Frame]:
    """The browser sends a picture whenever the page has changed."""
    page.set_default_timeout(120_000)
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_selector(f"#example-{example}")
    page.wait_for_timeout(1000)  # fonts and styles
    taken: list[tuple[float, PIL.Image.Image]] = []
    session = page.context.new_cdp_session(page)

    def keep(event: Any) -> None:
        taken.append((event["metadata"]["timestamp"], _picture(base64.b64decode(event["data"]))))
        session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    session.on("Page.screencastFrame", keep)
    session.send("Page.startScreencast", {"format": "png"})
    page.wait_for_timeout(1000)
    page.click(f"#example-{example}")
    page.mouse.move(0, 0)
    page.wait_for_selector("#answer [data-phase=done]")
    page.wait_for_timeout(1500)  # CSS transitions
    session.send("Page.stopScreencast")
    ends = [moment for moment, _ in taken[1:]] + [taken[-1][0]]
    return [Frame(picture, end - moment) for (moment, picture), end in zip(taken, ends, strict=True)]


def _picture(png: bytes) -> PIL.Image.Image:
    with PIL.Image.open(io.BytesIO(png)) as picture:
        return picture.convert("RGB")


def _distinct(frames: list[Frame]) -> list[Frame]:
    """Equal frames that follow each other are joined."""
    kept = frames[:1]
    for frame in frames[1:]:
        if PIL.ImageChops.difference(kept[-1].picture, frame.picture).getbbox() is None:
            kept[-1] = replace(kept[-1], seconds=kept[-1].seconds + frame.seconds)
        else:
            kept.append(frame)
    return kept


def _write(frames: list[Frame], file: Path) -> None:
    # One palette for all frames, so that a frame differs from the one before only where the page does.
    palette = frames[-1].picture.quantize(COLOURS, dither=PIL.Image.Dither.NONE)
    first, *others = [frame.picture.quantize(palette=palette, dither=PIL.Image.Dither.NONE) for frame in frames]
    first.save(
        file,
        save_all=True,
        append_images=others,
        duration=[max(20, round(1000 * frame.seconds)) for frame in frames],
        loop=0,
        optimize=True,
    )


if __name__ == "__main__":
    typer.run(record)
