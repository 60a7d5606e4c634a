"""Public query sets by name: fetched from their home or read from a file, requests only, never answers.

They are for measuring alone: nothing here trains, selects or tunes on them. No hash is known
beforehand; that of the file which was used is recorded with the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dro import data, store, tables
from dro.data import HARMFUL, HARMLESS, Query, QuerySet
from dro.errors import DataError
from dro.sources import Progress, cache_folder, sha256_of, silent

_RAW = "https://raw.githubusercontent.com"
_JBB = "https://huggingface.co/datasets/JailbreakBench/JBB-Behaviors/resolve/main/data"
_SECONDS = 30
Label = Callable[[Mapping[str, Any], Path], str | None]
"""The class of a row of a file; None where the row is no plain request."""


@dataclass(frozen=True)
class Benchmark:
    """Where a set lives, which column holds the requests, and which class a row belongs to."""

    home: str
    files: tuple[str, ...]
    columns: tuple[str, ...]
    label: Label


@dataclass(frozen=True)
class Used:
    """A file that was read: its set, where it came from, its sha256, and how many queries it gave."""

    set: str
    source: str
    sha256: str
    queries: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _all_harmful(row: Mapping[str, Any], path: Path) -> str:
    return HARMFUL


def _by_file(row: Mapping[str, Any], path: Path) -> str:
    return HARMLESS if "benign" in path.name.lower() else HARMFUL


def _xstest(row: Mapping[str, Any], path: Path) -> str:
    told = str(row.get("label") or "").lower()
    unsafe = told == "unsafe" if told else str(row.get("type") or "").startswith("contrast")
    return HARMFUL if unsafe else HARMLESS


def _without_context(row: Mapping[str, Any], path: Path) -> str | None:
    # Behaviours that continue a given text are no requests of their own.
    return None if str(row.get("ContextString") or "").strip() else HARMFUL


BENCHMARKS: Mapping[str, Benchmark] = {
    "advbench": Benchmark(
        "https://github.com/llm-attacks/llm-attacks",
        (f"{_RAW}/llm-attacks/llm-attacks/main/data/advbench/harmful_behaviors.csv",),
        ("goal",), _all_harmful,
    ),
    "malicious_instruct": Benchmark(
        "https://github.com/Princeton-SysML/Jailbreak_LLM",
        (f"{_RAW}/Princeton-SysML/Jailbreak_LLM/main/data/MaliciousInstruct.txt",),
        ("query", "prompt", "goal"), _all_harmful,
    ),
    "jailbreakbench": Benchmark(
        "https://huggingface.co/datasets/JailbreakBench/JBB-Behaviors",
        (f"{_JBB}/harmful-behaviors.csv", f"{_JBB}/benign-behaviors.csv"),
        ("Goal", "goal"), _by_file,
    ),
    "xstest": Benchmark(
        "https://github.com/paul-rottger/xstest",
        (f"{_RAW}/paul-rottger/xstest/main/xstest_prompts.csv",),
        ("prompt",), _xstest,
    ),
    "harmbench": Benchmark(
        "https://github.com/centerforaisafety/HarmBench",
        (f"{_RAW}/centerforaisafety/HarmBench/main/data/behavior_datasets/harmbench_behaviors_text_all.csv",),
        ("Behavior", "behavior"), _without_context,
    ),
}  # fmt: skip


def load(asked: str, progress: Progress = silent) -> tuple[QuerySet, list[Used]]:
    """A set as `NAME` (fetched once, then cached) or `NAME=PATH` (a file or a folder of files).

    With a PATH, any other NAME works as well: a table with a query column and a column `class`.

    Raises
    ------
    DataError: unknown name, a home that cannot be reached (says where to get the file), a bad file.
    """
    name, _, place = asked.partition("=")
    if name == "test" and not place:
        queries = data.bundled("test")
        return queries, [Used("test", "bundled", queries.digest, len(queries))]
    known = BENCHMARKS.get(name)
    if place:
        files = _files_at(Path(place).expanduser())
        if known is None:
            parts = [data.read_labelled(file) for file in files]
            queries = QuerySet(name, tuple(query for part in parts for query in part.queries))
            return queries, [
                Used(name, file.name, sha256_of(file), len(part))
                for file, part in zip(files, parts, strict=True)
            ]
        sources = [(file, file.name) for file in files]
    elif known is None:
        raise DataError(
            f"There is no query set {name!r}.",
            f"Use test, {', '.join(BENCHMARKS)}, or NAME=PATH for a file of your own.",
        )
    else:
        sources = [(_fetched(name, url, known, progress), url) for url in known.files]
    found, used = [], []
    for path, source in sources:
        read = _queries(path, known)
        found += read
        used.append(Used(name, source, sha256_of(path), len(read)))
    return QuerySet(name, tuple(found)), used


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in (*tables.SUFFIXES, ".txt"))
        if not files:
            raise DataError(f"{path} holds no csv, jsonl or txt file.", "Name the file itself.")
        return files
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Check the path after the = sign.")
    return [path]


def _fetched(name: str, url: str, known: Benchmark, progress: Progress) -> Path:
    path = cache_folder() / "benchmarks" / name / url.rsplit("/", 1)[1]
    if path.is_file():
        return path
    from huggingface_hub.utils import get_session

    progress(f"Fetching {name} from {known.home}", 0.0)
    try:
        answer = get_session().get(url, timeout=_SECONDS, follow_redirects=True)
        answer.raise_for_status()
    except Exception as error:  # no network, a proxy, a moved file: all end in the same advice
        raise DataError(
            f"{name} could not be fetched from {url} ({error}).",
            f"Get it from {known.home} and name the file: --set {name}=PATH.",
        ) from None
    store.write_bytes(path, answer.content)
    return path


def _queries(path: Path, known: Benchmark) -> list[Query]:
    if path.suffix.lower() not in tables.SUFFIXES:
        return [Query(text, known.label({}, path) == HARMFUL) for text in data.read_texts(path)]
    rows = tables.read(path)
    there = list(rows[0][0]) if rows else []
    column = next((c for c in known.columns if c in there), None)
    if column is None:
        raise DataError(
            f"{path.name} has no column {' or '.join(known.columns)}.",
            f"{tables.columns_there(there)} Is it the file of {known.home}?",
        )
    labelled = [(row[column], known.label(row, path)) for row, _ in rows]
    return [Query(data.check_query(text), label == HARMFUL) for text, label in labelled if label]
