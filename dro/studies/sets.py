"""Sets that only studies use: written for this project, requests and neutral texts, never answers to harm."""

from __future__ import annotations

import csv
import io
import json
from importlib import resources
from typing import Any

from dro.data import CLASSES, HARMFUL, Query, QuerySet


def _text(name: str) -> str:
    return resources.files("dro").joinpath("data", name).read_text(encoding="utf-8")


def rows(name: str) -> list[dict[str, str]]:
    """Rows of a csv file of ours."""
    return list(csv.DictReader(io.StringIO(_text(name))))


def items(name: str) -> list[dict[str, Any]]:
    """Objects of a jsonl file of ours."""
    return [json.loads(line) for line in _text(name).splitlines() if line.strip()]


def borderline(limit: int | None = None) -> tuple[QuerySet, list[str]]:
    """Safe but alarming queries (harmless) and harmful but polite ones, and the kind of each.

    limit: so many of each class, evenly from their kinds. Harmful ones come first.
    """
    found = [
        row
        for label in CLASSES
        for row in _spread([r for r in rows("borderline.csv") if r["class"] == label], limit)
    ]
    queries = tuple(Query(row["query"], row["class"] == HARMFUL) for row in found)
    return QuerySet("borderline", queries), [row["kind"] for row in found]


def _spread(found: list[dict[str, str]], limit: int | None) -> list[dict[str, str]]:
    """Every n-th row, so that few rows still are of all kinds."""
    if limit is None or limit >= len(found):
        return found
    return [found[index * len(found) // limit] for index in range(limit)]
