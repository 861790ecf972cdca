"""Takes the screenshots of the page in docs/: wide and phone, light and dark.

    python -m demos.screenshots http://127.0.0.1:7860

Asks the page's first example in headless Chromium. Needs the packages that `make test-browser` installs.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import PIL.Image
import typer

FOLDER = Path(__file__).parents[1] / "docs"
COLOURS = 256
"""Size of the palette. The page has few colours, and a palette saves two thirds of the bytes."""


@dataclass(frozen=True, slots=True)
class Shot:
    """Width and height of the window, in CSS pixels."""

    name: str
    width: int
    height: int
    scheme: str


SHOTS = (
    Shot("page-wide-light", 1360, 1180, "light"),
    Shot("page-wide-dark", 1360, 1180, "dark"),
    Shot("page-phone-light", 390, 1300, "light"),
    Shot("page-phone-dark", 390, 1300, "dark"),
)


def take(
    url: Annotated[str, typer.Argument(help="The page's URL.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the screenshots.")] = FOLDER,
    example: Annotated[int, typer.Option(help="The number of the example to ask, from 0.")] = 0,
) -> None:
    """Ask an example question and take four screenshots."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for shot in SHOTS:
            _shrink(_take(browser, url, shot, example), folder / f"{shot.name}.png")
        browser.close()


def _take(browser: Any, url: str, shot: Shot, example: int) -> bytes:
    context = browser.new_context(viewport={"width": shot.width, "height": shot.height}, color_scheme=shot.scheme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(url, wait_until="domcontentloaded")
    page.click(f"#example-{example}")
    page.wait_for_selector("#answer [data-phase=done]")
    page.locator("#account table").wait_for()
    page.mouse.move(0, 0)
    phone = shot.width < 700
    page.evaluate("document.getElementById('answer').scrollIntoView()" if phone else "scrollTo(0, 0)")
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(800)  # wait for CSS transitions
    taken: bytes = page.screenshot()
    context.close()
    return taken


def _shrink(taken: bytes, file: Path) -> None:
    method = PIL.Image.Quantize.MAXCOVERAGE  # small areas of colour, as in pictures, keep theirs
    with PIL.Image.open(io.BytesIO(taken)) as picture:
        small = picture.convert("RGB").quantize(COLOURS, method, kmeans=4, dither=PIL.Image.Dither.NONE)
    small.save(file, optimize=True)


if __name__ == "__main__":
    typer.run(take)
