"""`python -m tests.fuzz`: random input against encoding, files, programs' interface and store.

Whatever comes in, a user meets an error of ours or a result, never a traceback, and never waits for ever.
Cases are hypothesis's own, so what fails is shrunk; a seed repeats a campaign. A few of each run in
`make test` (test_fuzz.py).
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from conftest import chat_model, pairs, random_space
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from test_encoding import TEXTS, S, check_query_is_text

from dro import data, prompts, run_folder, space, store, tables
from dro.errors import DroError, StoreError
from dro.registry import REGISTRY
from dro.rendering import from_file

LONGEST = 20.0
"""Seconds after which a case counts as hanging."""
RENDERINGS = ("qwen2.5-coder-0.5b", "llama-2-7b", "mistral-7b-v0.1", "vicuna-7b", "orca-2-7b", "openchat-3.5")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(
    ["query", "class", "harmful", "harmless", "pair", "prompt", ",", "\t", "\n", "\r\n", '"', "{", "}", "[",
     "]", ":", "null", "1e999", "-1", "=1+1", "\x00", "\ufeff", "\u202e", "\u2028", "é", "🎉", "NaN"]
)  # fmt: skip
TABLE = st.lists(WORDS | st.text(max_size=12), max_size=40).map("".join)


@cache
def _room() -> Path:
    # In memory where that can be had: every write waits for the disk otherwise.
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="dro-fuzz-", dir=memory if memory.is_dir() else None))


@cache
def _tiny() -> Any:
    return chat_model()


@cache
def _whole() -> Path:
    """A folder with a whole space, run and prompt, for cases that damage a part of it."""
    model, folder = _tiny(), _room() / "whole"
    space.save(random_space(model, pairs(12)), folder)
    prompt = prompts.SafetyPrompt("x", S, np.zeros((3, 32), np.float32))
    prompts.save(prompt, folder, {"base_model": "tiny"})
    run_folder.append(folder, run_folder.Step(1, 1.0, 1.0, 0.1, 0.1, 0.5, 0.1))
    return folder


def ours(call: Callable[[], Any]) -> Any:
    """The result, or None where one of our errors said why not."""
    try:
        return call()
    except DroError as error:
        assert str(error).strip() and "Traceback" not in str(error)
        return None


@given(name=st.sampled_from(RENDERINGS), query=TEXTS, system=st.sampled_from([S, None]))
def encoding(name: str, query: str, system: str | None) -> None:
    """No query becomes a special token or a delimiter of its template."""
    if query.strip():
        check_query_is_text(name, system, query)


@given(query=JSON | st.text(), system=JSON | st.text())
def anything_as_query(query: Any, system: Any) -> None:
    """What is no text is refused; what is, comes back."""
    found = ours(lambda: data.check_query(query))
    assert found is None or found == query
    ours(lambda: prompts.resolve(f"text:{system}", _tiny()))
    if isinstance(system, str) and not system.startswith("/"):
        ours(lambda: prompts.resolve(system, _tiny()))


@given(content=st.binary(max_size=400) | TABLE.map(lambda t: t.encode("utf-8", "surrogatepass")),
       suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".txt", ".exe", ""]))  # fmt: skip
def table_files(content: bytes, suffix: str) -> None:
    """A file of any content is read or refused."""
    path = _room() / f"x{suffix}"
    path.write_bytes(content)
    ours(lambda: tables.read(path))
    ours(lambda: data.read_texts(path))
    found = ours(lambda: data.read_labelled(path))
    if found is not None:
        assert all(isinstance(q.text, str) and q.text.strip() for q in found.queries)
        assert np.array([q.pair for q in found.queries]).dtype.kind == "i"


@given(which=st.sampled_from(["space.json", "space.safetensors", "soft_prompt.safetensors", "dro_prompt.json",
                              "steps.jsonl"]),
       place=st.floats(0, 1), content=st.binary(min_size=1, max_size=24), cut=st.booleans())  # fmt: skip
def damaged_files(which: str, place: float, content: bytes, cut: bool) -> None:
    """A file of ours with bytes changed, or cut off, is read or refused by name."""
    whole, folder = _whole(), _room() / "damaged"
    folder.mkdir(exist_ok=True)
    for file in whole.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    kept = (whole / which).read_bytes()
    at = int(place * len(kept))
    (folder / which).write_bytes(kept[:at] + (b"" if cut else content + kept[at + len(content) :]))
    ours(lambda: space.load(folder))
    ours(lambda: prompts.load(folder, 32, "tiny"))
    ours(lambda: run_folder.read_curve(folder))


@given(content=st.binary(max_size=300) | JSON.map(lambda j: json.dumps(j).encode("utf-8", "surrogatepass")))
def files_of_ours(content: bytes) -> None:
    """Any bytes in place of a file of ours are read or refused."""
    folder = _room() / "ours"
    folder.mkdir(exist_ok=True)
    names = ("config.json", "space.json", "soft_prompt.safetensors", "checkpoint.safetensors", "steps.jsonl")
    for name in names:
        (folder / name).write_bytes(content)
    ours(lambda: store.read_json(folder / "config.json"))
    ours(lambda: from_file(folder / "config.json"))
    ours(lambda: space.load(folder))
    ours(lambda: prompts.load(folder, 32, "tiny"))
    ours(lambda: run_folder.read_checkpoint(folder, (3, 32)))
    ours(lambda: run_folder.read_curve(folder))
    ours(lambda: run_folder.claim(folder, {"config": {}}))


@given(content=JSON, key=st.text(min_size=1, max_size=20))
def stored(content: Any, key: str) -> None:
    """What is written is read back; what cannot be written leaves what was there."""
    path = _room() / "stored.json"
    store.write_json(path, {"old": 1})
    try:
        store.write_json(path, {key: content})
    except (ValueError, StoreError):
        assert store.read_json(path) == {"old": 1}
    else:
        assert store.read_json(path) == {key: content}
        assert store.content_hash({key: content}) == store.content_hash(store.read_json(path))


@cache
def _service() -> Any:
    import os

    from conftest import save_folder
    from serving import tiny_service

    if "DRO_CACHE" not in os.environ or __name__ == "__main__":
        os.environ["DRO_CACHE"] = str(_room() / "cache")
    return tiny_service(save_folder(_room() / "tiny"), pairs(12))


NAMES = st.sampled_from(["none", "short", "template", "template+short", "text:Be kind.", "dro-short-1"])


@given(query=TEXTS | JSON, names=st.lists(NAMES | JSON, max_size=4) | JSON, length=st.integers(1, 4) | JSON,
       chosen=JSON)  # fmt: skip
def questions(query: Any, names: Any, length: Any, chosen: Any) -> None:
    """Any question under any prompts is placed and answered, or refused."""
    service = _service()
    found = ours(lambda: service.locate(query, names))
    if found:
        json.dumps(found, allow_nan=False)
    name = names[0] if isinstance(names, list) and names else "none"
    short = 2 if isinstance(length, (int, float)) and not isinstance(length, bool) and length > 4 else length
    ours(lambda: service.answer(query, name, short, chosen))


SETTINGS = st.dictionaries(
    st.sampled_from(["steps", "batch", "lr", "init", "queries", "seed", "target", "space", "choose", "x"]),
    JSON | st.sampled_from(["short", "train", "test", "text:a", "absolute", "paper", -1, 0, 10**9, 1e-9]),
    max_size=5,
)  # fmt: skip


@given(action=JSON | st.sampled_from(["stop", "follow", "start"]), run=JSON, preset=NAMES | JSON,
       told=SETTINGS | JSON, key=JSON)  # fmt: skip
def optimise_calls(action: Any, run: Any, preset: Any, told: Any, key: Any) -> None:
    """Settings, names of runs and actions of any kind are taken or refused, and no run is begun."""
    from explorer.api import _settings

    service = _service()
    ours(lambda: service.stop_run(run, key))
    ours(lambda: service.run(preset))
    config = ours(lambda: service.configuration("quick" if action == "start" else preset, **_settings(told)))
    if config is not None:
        ours(lambda: service.expect(config))
    ours(lambda: service.evaluation(run))


@given(event=JSON | st.fixed_dictionaries({"customdata": JSON | st.lists(TEXTS, max_size=4)}))
def plot_events(event: Any) -> None:
    """Whatever a browser sends as a click is shown as text."""
    import re

    from explorer.tabs.explore import _told

    assert set(re.findall(r"<\s*(\w+)", _told(event))) <= {"p", "br", "small"}


TARGETS: dict[str, tuple[Callable[[], None], float]] = {
    "encoding": (encoding, 0.3),
    "anything as query": (anything_as_query, 0.1),
    "table files": (table_files, 0.2),
    "damaged files": (damaged_files, 0.08),
    "files of ours": (files_of_ours, 0.1),
    "store": (stored, 0.07),
    "questions": (questions, 0.05),
    "optimise calls": (optimise_calls, 0.05),
    "plot events": (plot_events, 0.05),
}
"""Each with its share of a campaign's cases."""


def campaign(name: str, cases: int, number: int) -> tuple[int, float]:
    """Run so many cases of a target: how many there were, and the longest (s); raises what failed."""
    test, count, longest = TARGETS[name][0], 0, 0.0
    inner = test.hypothesis.inner_test  # type: ignore[attr-defined]

    def counted(**case: Any) -> None:
        nonlocal count, longest
        began = time.monotonic()
        faulthandler.dump_traceback_later(LONGEST)  # where it hangs, in every thread
        try:
            inner(**case)
        finally:
            faulthandler.cancel_dump_traceback_later()
            took = time.monotonic() - began
            count, longest = count + 1, max(longest, took)
        assert took < LONGEST, f"a case hangs: {took:.0f} s"

    test.hypothesis.inner_test = counted  # type: ignore[attr-defined]
    try:
        limits = settings(max_examples=cases, deadline=None, database=None, print_blob=False,
                          suppress_health_check=list(HealthCheck),
                          phases=(Phase.generate, Phase.shrink))  # fmt: skip
        seed(number)(limits(test))()
    finally:
        test.hypothesis.inner_test = inner  # type: ignore[attr-defined]
    return count, longest


def main() -> int:
    """A campaign over all targets; a table of what was tried."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=list(TARGETS), action="append")
    asked = parser.parse_args()
    assert set(RENDERINGS) <= set(REGISTRY)
    total, failed, began = 0, 0, time.monotonic()
    for name, (_, share) in TARGETS.items():
        if asked.target and name not in asked.target:
            continue
        start = time.monotonic()
        try:
            count, longest = campaign(name, max(1, int(asked.cases * share)), asked.seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed += 1
            print(f"{name}: FAILED {type(error).__name__}: {str(error)[:2000]}", flush=True)
            for each in getattr(error, "exceptions", (error,)):
                trace = traceback.extract_tb(each.__traceback__)[-1]
                print(f"  {type(each).__name__}: {str(each)[:300]} at {trace.filename}:{trace.lineno}")
                for note in getattr(each, "__notes__", ()):
                    print(f"  {note[:600]}")
            continue
        total += count
        took = time.monotonic() - start
        print(f"{name}: {count:,} cases in {took:.0f} s, longest {longest:.2f} s", flush=True)
    print(f"{total:,} cases, {failed} failures, {time.monotonic() - began:.0f} s, seed {asked.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
