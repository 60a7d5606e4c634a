"""`python -m tests.space`: the repository as a Space would run it, and what that takes.

A copy of the files that git has, run as `python app.py` with a Space's environment, on two cores, by a Python
that sees the packages of requirements.txt with what these need, and no others; everything but its home and
its temporary files is read-only to it (a mount namespace of its own). Asked /locate over HTTP; the peak of
resident memory is that of all its processes together, added up twice a second.

--scratch: the model is not there yet; it lies in the Hub's cache where --gguf says, as preload_from_hub
leaves it, or is fetched. Else this machine's own store is copied.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 16e9
HOST = "someone-dro-explorer.hf.space"


def needed(file: Path = ROOT / "requirements.txt") -> set[str]:
    """Names of the installed packages that a requirements file asks for, with all that these need."""
    lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
    waiting = [Requirement(line) for line in lines if line]
    found: set[tuple[str, str]] = set()
    while waiting:
        asked = waiting.pop()
        for extra in ("", *asked.extras):
            name = asked.name.lower().replace("_", "-")
            if (name, extra) in found:
                continue
            distribution = metadata.distribution(asked.name)
            if not asked.specifier.contains(distribution.version, prereleases=True):
                raise SystemExit(f"{asked} is asked for, {distribution.version} is installed")
            found.add((name, extra))
            for line in distribution.requires or ():
                more = Requirement(line)
                if more.marker is None or more.marker.evaluate({"extra": extra}):
                    waiting.append(more)
    return {name for name, _ in found}


def environment(place: Path, names: set[str]) -> Path:
    """A virtual environment with links to these packages alone; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    site = next(place.glob("lib/python*/site-packages"))
    for name in sorted(names):
        distribution = metadata.distribution(name)
        base = Path(str(distribution.locate_file("")))
        tops = {Path(str(file)).parts[0] for file in distribution.files or ()}
        for top in tops - {"..", "__pycache__"}:
            target = site / top
            if not (base / top).is_dir() or not target.exists():
                _link(base / top, target)
            elif target.is_symlink():  # a namespace that several packages share
                shared = target.resolve()
                target.unlink()
                target.mkdir()
                for each in (*shared.iterdir(), *(base / top).iterdir()):
                    _link(each, target / each.name)
    return place / "bin" / "python"


def _link(source: Path, target: Path) -> None:
    if source.exists() and not target.exists():
        target.symlink_to(source)


def copied(place: Path) -> Path:
    """The files that git has, as a Space's checkout holds them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


def resident(process: int) -> int:
    """Bytes that a process and its children hold now."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()
            if int(folder.name) == process or int(fields[2]) == process:  # its process group
                total += int(folder.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            continue
    return total


def asked(url: str, deadline: float) -> Any:
    """What /locate answers, once the model is there."""
    headers = {"content-type": "application/json", "host": HOST}
    body = json.dumps({"data": ["How do I sharpen a knife?", ["none", "short"]]}).encode()
    while True:
        assert time.monotonic() < deadline, "the model did not come"
        request = urllib.request.Request(f"{url}/gradio_api/call/locate", body, headers)
        event = json.load(urllib.request.urlopen(request, timeout=60))["event_id"]
        request = urllib.request.Request(f"{url}/gradio_api/call/locate/{event}", headers=headers)
        told = urllib.request.urlopen(request, timeout=600).read().decode()
        if "event: complete" in told:
            return json.loads(told.split("data: ", 1)[1].splitlines()[0])[0]
        time.sleep(1)


def simulate(folder: Path, scratch: bool = False, gguf: Path | None = None, patience: float = 600) -> dict:
    """Run the Space in `folder` until it has answered; what was seen."""
    home, temporary = folder / "home", folder / "tmp"
    for place in (home, temporary):
        place.mkdir()
    code, python = copied(folder / "app"), environment(folder / "venv", needed())
    store = home / ".cache" / "dro-explorer"
    if not scratch:
        own = Path(os.environ.get("DRO_CACHE", Path.home() / ".cache" / "dro-explorer"))
        shutil.copytree(own / "models", store / "models", copy_function=_shared)
    if gguf is not None:
        _preload(gguf, home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inner = (
        f"mount --bind {home} {home} && mount --bind {temporary} {temporary} && "
        f"mount -o remount,bind,ro / && cd {code} && exec taskset -c 0,1 {python} app.py"
    )
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "SSL_CERT_FILE")
            or name.startswith("PIP_") or name.lower().endswith("_proxy")}  # fmt: skip
    settings = kept | {
        "HOME": str(home), "TMPDIR": str(temporary), "SPACE_ID": "someone/dro-explorer", "SPACE_HOST": HOST,
        "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    began, peak = time.monotonic(), 0
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inner]
    process = subprocess.Popen(command, env=settings, start_new_session=True)
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.5):
            peak = max(peak, resident(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        url, served = f"http://127.0.0.1:{port}", 0.0
        while not served:
            assert process.poll() is None, "app.py ended"
            assert time.monotonic() - began < patience, "no page was served"
            try:
                request = urllib.request.Request(url, headers={"host": HOST})
                page = urllib.request.urlopen(request, timeout=30).read().decode()
                served = time.monotonic() - began
            except OSError:
                time.sleep(0.5)
        told = asked(url, began + patience)
        answered = time.monotonic() - began
    finally:
        over.set()
        watcher.join()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
    return {
        "packages": len(needed()), "page": "DRO Explorer" in page, "served_s": round(served, 1),
        "located_s": round(answered, 1), "points": told["points"], "peak_gb": round(peak / 1e9, 2),
        "limit_gb": LIMIT / 1e9, "wrote_into_code": _changed(code),
    }  # fmt: skip


def _shared(source: str, target: str) -> None:
    """A hard link where that can be, else a copy; nobody writes into weights."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _preload(gguf: Path, home: Path) -> None:
    """The file where the Hub's client keeps what it has fetched."""
    sys.path.insert(0, str(ROOT))
    from dro.sources import DEFAULT_GGUF

    repo = home / ".cache" / "huggingface" / "hub" / f"models--{DEFAULT_GGUF.hub_repo.replace('/', '--')}"
    commit = "0" * 40
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit / DEFAULT_GGUF.name).symlink_to(gguf.resolve())


def _changed(code: Path) -> list[str]:
    """Files in the code's folder that git does not have."""
    there = {str(path.relative_to(code)) for path in code.rglob("*") if path.is_file()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted(there - set(listed.stdout.splitlines()))


def main() -> int:
    """Simulate, tell, and say whether it fits."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--scratch", action="store_true", help="without this machine's store")
    parser.add_argument("--gguf", type=Path, help="the model's file, put into the Hub's cache")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # what was started is stopped, too
    with tempfile.TemporaryDirectory() as folder:
        found = simulate(Path(folder), options.scratch or options.gguf is not None, options.gguf)
    print(json.dumps(found, indent=1))
    return int(not found["page"] or found["peak_gb"] * 1e9 > LIMIT or bool(found["wrote_into_code"]))


if __name__ == "__main__":
    raise SystemExit(main())
