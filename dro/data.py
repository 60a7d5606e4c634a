"""Queries: what may be one, the bundled sets, and users' files.

A query set holds requests, never answers. The bundled sets were written for this project.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dro import tables
from dro.errors import DataError

HARMFUL, HARMLESS = "harmful", "harmless"
CLASSES = (HARMFUL, HARMLESS)
BUNDLED = ("anchors", "train", "subtle", "validation", "test")
MAX_QUERY_CHARACTERS = 8_000
MAX_PAIR = 2**31
QUERY_COLUMNS = ("query", "prompt", "goal", "instruction", "text")


@dataclass(frozen=True)
class Query:
    """One request. `pair` joins a harmful query with its harmless look-alike; -1 where there is none."""

    text: str
    harmful: bool
    pair: int = -1

    @property
    def label(self) -> str:
        return HARMFUL if self.harmful else HARMLESS


@dataclass(frozen=True)
class QuerySet:
    """A named, ordered set of queries; `digest` names its content."""

    name: str
    queries: tuple[Query, ...]

    def of(self, label: str) -> "QuerySet":
        """The queries of one class, "harmful" or "harmless", in order."""
        return QuerySet(self.name, tuple(q for q in self.queries if q.label == label))

    def limit(self, count: int | None) -> "QuerySet":
        """The first `count` queries of each class (all for None)."""
        if count is None:
            return self
        kept = [q for label in CLASSES for q in self.of(label).queries[:count]]
        return QuerySet(self.name, tuple(kept))

    @property
    def texts(self) -> list[str]:
        return [q.text for q in self.queries]

    @property
    def digest(self) -> str:
        lines = "\n".join(f"{q.label}\t{q.pair}\t{q.text}" for q in self.queries)
        return hashlib.sha256(lines.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.queries)


def check_query(text: object) -> str:
    """Return `text` if a model can be asked it; raise DataError with the reason otherwise.

    Nothing is removed or rewritten: a query is plain text whatever it contains.
    """
    if not isinstance(text, str):
        raise DataError(f"A query is text, not {type(text).__name__}.", "Pass a string.")
    if not text.strip():
        raise DataError("The query is empty.", "Type a question or a request.")
    if len(text) > MAX_QUERY_CHARACTERS:
        raise DataError(
            f"The query has {len(text):,} characters; at most {MAX_QUERY_CHARACTERS:,} are read.",
            "Shorten it.",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"The query holds a lone surrogate at character {error.start + 1}, which is no text.",
            "Remove that character.",
        ) from None
    return text


def bundled(name: str, half: str | None = None) -> QuerySet:
    """A bundled set: "anchors" (a space is fitted on them), "train", "subtle" (more to train on, where words
    mislead: polite harm, alarming safety), "validation" or "test".

    Parameters
    ----------
    half: for "validation" only, "select" (may choose a step, m or a recipe) or "report" (may only
        be reported on). None gives both.
    """
    if name not in BUNDLED:
        raise DataError(f"There is no bundled query set {name!r}.", f"Use one of {', '.join(BUNDLED)}.")
    if half is not None and (name != "validation" or half not in ("select", "report")):
        raise DataError(f"The set {name!r} has no half {half!r}.", "Only validation has: select and report.")
    text = resources.files("dro").joinpath("data", f"{name}.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if half is None or row["half"] == half]
    queries = tuple(Query(row["query"], row["class"] == HARMFUL, int(row["pair"])) for row in rows)
    return QuerySet(name if half is None else f"{name}-{half}", queries)


def read_texts(path: str | Path, column: str | None = None) -> list[str]:
    """Read queries from a .txt (one a line), .csv or .jsonl file, in order.

    Raises
    ------
    DataError: unreadable file, wrong encoding (with the line), missing column (with those there are),
        or a line that is no query.
    """
    return [text for text, _, _ in _read_rows(Path(path), column)]


def read_labelled(path: str | Path, column: str | None = None) -> QuerySet:
    """Read a .csv or .jsonl file with a query column and a column `class` (harmful or harmless).

    An optional integer column `pair` joins look-alikes; without it the n-th harmful query is paired
    with the n-th harmless one, so that both fall into the same fold.
    """
    path = Path(path)
    counts = dict.fromkeys(CLASSES, 0)
    queries = []
    for text, row, where in _read_rows(path, column):
        label = str(row.get("class") or "").strip().lower()
        if label not in CLASSES:
            raise DataError(
                f"{where}: the class is {label[:40]!r}.",
                "Give every row a column `class` with harmful or harmless (csv or jsonl).",
            )
        try:
            given = row.get("pair")
            pair = counts[label] if given in (None, "") else int(given)
            if abs(pair) > MAX_PAIR:
                raise OverflowError
        except (ValueError, TypeError, OverflowError):
            raise DataError(f"{where}: pair is {str(row['pair'])[:40]!r}.", "Use whole numbers.") from None
        counts[label] += 1
        queries.append(Query(text, label == HARMFUL, pair))
    if min(counts.values()) == 0:
        raise DataError(f"{path.name} holds {counts}.", "Queries of both classes are needed.")
    return QuerySet(path.stem[:80], tuple(queries))


def as_set(texts: Iterable[str], harmful: bool, name: str) -> QuerySet:
    """Queries of one class from plain texts."""
    return QuerySet(name, tuple(Query(check_query(text), harmful) for text in texts))


def _read_rows(path: Path, column: str | None) -> list[tuple[str, dict, str]]:
    """(query, whole row, "file, line n") for every non-empty line of a user's file."""
    if path.suffix.lower() in tables.SUFFIXES:
        rows = tables.read(path)
    else:
        lines = tables.lines(tables.read_text(path))
        rows = [({"query": line}, number) for number, line in lines if line.strip()]
        column = "query"
    if not rows:
        raise DataError(f"{path.name} holds no query.", "Put one query on each line.")
    name = column or _query_column(path, list(rows[0][0]))
    result = []
    for row, number in rows:
        where = f"{path.name}, line {number}"
        if name not in row:
            raise tables.no_column(where, name, list(row))
        try:
            result.append((check_query(row[name]), row, where))
        except DataError as error:
            raise DataError(f"{where}: {error.cause}", error.remedy) from None
    return result


def _query_column(path: Path, columns: Sequence[str]) -> str:
    for name in QUERY_COLUMNS:
        if name in columns:
            return name
    raise DataError(
        f"{path.name} has no column named {', '.join(QUERY_COLUMNS)}.",
        f"{tables.columns_there(columns)} Name the query column `query`.",
    )
