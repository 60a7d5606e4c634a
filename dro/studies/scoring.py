"""Exact scoring of capability items: right or wrong, by rule, no judge.

number        the last number of the answer. is: the whole answer, but for quotes and a full stop.
contains, contains_any, excludes: words, at the start of a word. starts, ends, upper, regex (whole answer),
least_words, most_words, lines, json (the first JSON value): what they say; several hold together.
function, tests: Python code that is run (see `running`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from dro.errors import DataError
from dro.studies import running

_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)(?:```|\Z)", re.DOTALL)


def right(answer: str, check: Mapping[str, Any]) -> bool:
    """Whether `answer` passes every rule of `check`."""
    text = answer.strip()
    if "function" in check:
        return running.passes(_unfenced(text), check["function"], check["tests"])
    unknown = set(check) - set(_RULES) - {"case"}
    if unknown or not check:
        raise DataError(f"An item is checked by {sorted(unknown) or 'nothing'}.", f"Use {', '.join(_RULES)}.")
    return all(_RULES[rule](text, check[rule], check) for rule in check if rule != "case")


def _number(text: str, wanted: float, _: Mapping[str, Any]) -> bool:
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text.replace("−", "-"))
    return bool(found) and float(found[-1].replace(",", "")) == wanted


def _is(text: str, wanted: str, check: Mapping[str, Any]) -> bool:
    said = text.strip("\"'“”`* \n").rstrip(".").strip("\"'“”`* ")
    return said == wanted if check.get("case") else said.lower() == wanted.lower()


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word.lower())}", text.lower()) is not None


def _json(text: str, wanted: Any, _: Mapping[str, Any]) -> bool:
    body = _unfenced(text).strip()
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return type(found) is type(wanted) and found == wanted


def _words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def _lines(text: str) -> int:
    return len([line for line in _unfenced(text).splitlines() if line.strip()])


def _unfenced(text: str) -> str:
    """What stands inside the first code fence, else the text."""
    found = _FENCE.search(text)
    return found.group(1) if found else text


_RULES: Mapping[str, Callable[[str, Any, Mapping[str, Any]], bool]] = {
    "number": _number,
    "is": _is,
    "contains": lambda text, words, _: all(_has(text, word) for word in words),
    "contains_any": lambda text, words, _: any(_has(text, word) for word in words),
    "excludes": lambda text, words, _: not any(_has(text, word) for word in words),
    "starts": lambda text, start, _: text.strip("\"'“ ").startswith(start),
    "ends": lambda text, end, _: text.strip("\"'”* ").endswith(end),
    "upper": lambda text, _, __: text.upper() == text and any(c.isalpha() for c in text),
    "regex": lambda text, pattern, _: re.fullmatch(pattern, text) is not None,
    "least_words": lambda text, count, _: _words(text) >= count,
    "most_words": lambda text, count, _: 1 <= _words(text) <= count,
    "lines": lambda text, count, _: _lines(text) == count,
    "json": _json,
}
