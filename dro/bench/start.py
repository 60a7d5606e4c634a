"""From starting the app to its first drawn page, as a visitor waits for it.

Drawn means: a browser shows the anchors' picture. Where no Chromium and no playwright are at hand it
means: the page is served with the picture in it; which of the two it was is told.

Warm is a start with the project's cache as it is; cold is one with an empty cache, but for the
downloaded models. Both are processes of their own.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dro import memory
from dro.errors import DroError
from dro.sources import cache_folder

NAMES = ("start_warm", "start_cold")
_APP = Path(__file__).resolve().parent.parent.parent / "app.py"
_TRIALS = 3
_PATIENCE = 120.0
_PICTURE = "space-plot"
"""The element id of the picture; its first curve is there when it is drawn."""


@dataclass(frozen=True)
class Start:
    """Median seconds to the drawn page, least and most, peak bytes of the app until then, seconds that
    importing gradio takes by itself, and by what the page was seen: "browser" or "served"."""

    seconds: float
    spread: tuple[float, float]
    peak: int | None
    gradio: float
    drawn: str


def measure(name: str) -> Start:
    """Start the app a few times and see it draw; DroError where it is not there or does not come up."""
    if not _APP.is_file():
        raise DroError(f"{_APP} is not there.", "Run the benchmark in the project's own folder.")
    with _watcher() as (drawn, see), tempfile.TemporaryDirectory() as empty:
        seconds, peaks = [], []
        for trial in range(_TRIALS):
            home = Path(empty) / f"cache{trial}"
            home.mkdir()
            if name == "start_cold":
                (home / "models").symlink_to((cache_folder() / "models").resolve())
            took, peak = _start(see, home if name == "start_cold" else cache_folder())
            seconds.append(took)
            peaks.append(peak)
        imports = [_import_gradio() for _ in range(_TRIALS)]
    known = [peak for peak in peaks if peak is not None]
    return Start(statistics.median(seconds), (min(seconds), max(seconds)), max(known) if known else None,
                 statistics.median(imports), drawn)  # fmt: skip


def _start(see: Callable[[str], bool], cache: Path) -> tuple[float, int | None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"GRADIO_SERVER_PORT": str(port), "DRO_CACHE": str(cache)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(_APP)], cwd=_APP.parent, env=os.environ | own,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not see(f"http://127.0.0.1:{port}/"):
            if process.poll() is not None or time.perf_counter() - began > _PATIENCE:
                raise DroError("The app draws no page.", "Look what `python app.py` says.")
            time.sleep(0.02)
        return time.perf_counter() - began, memory.peak(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _import_gradio() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True, cwd=_APP.parent,
                   env=os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"})  # fmt: skip
    return time.perf_counter() - began


@contextmanager
def _watcher() -> Iterator[tuple[str, Callable[[str], bool]]]:
    """("browser" or "served", whether the page at an address is drawn now)."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        chromium = None
    if not chromium:
        yield "served", _served
        return
    with sync_playwright() as playwright:
        # Started before the clock: the visitor's browser is open already.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])

        def see(address: str) -> bool:
            if not _answers(address):
                return False
            page = browser.new_page()
            try:
                page.goto(address, wait_until="commit")
                page.wait_for_selector(f"#{_PICTURE} .main-svg", timeout=_PATIENCE * 1000)
                return True
            except Error:
                return False
            finally:
                page.close()

        yield "browser", see
        browser.close()


def _answers(address: str) -> bool:
    return _fetched(address) is not None


def _served(address: str) -> bool:
    """The page is there, and what it is made of holds the picture."""
    page = _fetched(address)
    return page is not None and _PICTURE.encode() in page


def _fetched(address: str) -> bytes | None:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.read()
    except OSError:
        return None
