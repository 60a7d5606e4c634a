"""Users' tables: csv, tsv and jsonl files as rows with their line numbers, faults named by line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dro.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
MAX_FILE_BYTES = 20_000_000
MAX_COLUMNS, MAX_ROWS, MAX_CELLS = 1_000, 100_000, 2_000_000
"""A csv row costs memory for every column there is, whether it holds anything or not."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def read(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Rows of a table and the line each stands on.

    Raises
    ------
    DataError: unreadable, another kind of file, wrong encoding or malformed (with the line).
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path.name} is no table.", f"Use a {', '.join(SUFFIXES)} file.")
    content = read_text(path)
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl_rows(path, content)
    return _csv_rows(path, content, "\t" if suffix == ".tsv" else ",")


def column(path: Path, rows: Sequence[tuple[dict[str, Any], int]], name: str) -> list[str]:
    """The texts of one column; DataError names the line where it is missing or no text."""
    texts = []
    for row, number in rows:
        where = f"{path.name}, line {number}"
        if name not in row:
            raise no_column(where, name, list(row))
        if not isinstance(row[name], str):
            raise DataError(f"{where}: {name} is no text.", "Put a text into every row.")
        texts.append(row[name])
    return texts


def no_column(where: str, name: str, columns: Sequence[str | None]) -> DataError:
    """The error for a row without a column."""
    return DataError(f"{where}: there is no column {name!r}.", columns_there(columns))


def columns_there(columns: Sequence[str | None]) -> str:
    """A remedy's first half: which columns there are."""
    return f"It has: {', '.join(str(c) for c in columns[:20])}."


def read_text(path: Path) -> str:
    """A UTF-8 file as text; DataError where it is too large, unreadable, or otherwise encoded."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(
                f"{path.name} has {path.stat().st_size / 1e6:.0f} MB; at most "
                f"{MAX_FILE_BYTES / 1e6:.0f} MB are read.",
                "Split it.",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path.name}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8.",
            "Save the file as UTF-8.",
        ) from None


def lines(content: str) -> list[tuple[int, str]]:
    """Lines and their numbers, from 1."""
    # Not str.splitlines: it also splits at form feeds and U+2028, which may occur inside a query.
    return list(enumerate(content.replace("\r\n", "\n").split("\n"), start=1))


def spreadsheet_safe(cell: str) -> str:
    """A cell that a spreadsheet would run as a formula gets a quote before it: then it is shown as text."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _check_size(path: Path, rows: int, columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise DataError(
            f"{path.name} has {columns:,} columns; at most {MAX_COLUMNS:,} are read.", "Keep those needed."
        )
    if rows > MAX_ROWS or rows * columns > MAX_CELLS:
        raise DataError(f"{path.name} has {rows:,} rows or more of {columns:,} columns.", "Split it.")


def _jsonl_rows(path: Path, content: str) -> list[tuple[dict, int]]:
    rows = []
    for number, line in lines(content):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path.name}, line {number} is not JSON: {error}.", "Write one object a line."
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{path.name}, line {number} is no JSON object.", 'Write {"query": …}.')
        rows.append((row, number))
        _check_size(path, len(rows), len(row))
    return rows


def _csv_rows(path: Path, content: str, delimiter: str) -> list[tuple[dict, int]]:
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
    rows: list[tuple[dict, int]] = []
    try:
        columns = len(reader.fieldnames or ())
        _check_size(path, 0, columns)
        for row in reader:
            rows.append((row, reader.line_num))
            # Cells beyond the header's come as a list under the key None.
            _check_size(path, len(rows), max(columns, len(row.get(None) or ())))
        return rows
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {reader.line_num} is not csv: {error}.", "Check the quoting."
        ) from None
