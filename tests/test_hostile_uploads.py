"""Files that mean harm, or were never meant for us: each is refused by a sentence, in bounded memory."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

from dro import data, memory, prompts
from dro.errors import DroError
from explorer.tabs.evaluate import chosen_sets


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was run')",))


def tensors(**arrays):
    return to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def header(told, body=b""):
    """A safetensors file with a header of our own."""
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + body


def zipped(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def entry(dtype, shape, end):
    return {"soft_prompt": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


BOMB = zipped("queries.csv", b"\0" * 50_000_000)
SOFT = prompts.SOFT_PROMPT
PROMPTS = {
    "a pickle": (pickle.dumps(Payload()), "is no safetensors file"),
    "a torch file": (zipped("archive/data.pkl", pickle.dumps(Payload())), "is no safetensors file"),
    "nothing": (b"", "is no safetensors file"),
    "a header longer than the file": (struct.pack("<Q", 1 << 40) + b"{}", "is no safetensors file"),
    "a header that is no json": (header(b"not json"), "is no safetensors file"),
    "offsets beyond the file": (header(entry("F32", [4, 32], 512), b"\0" * 16), "is no safetensors file"),
    "a shape that lies": (header(entry("F32", [1 << 20, 32], 16), b"\0" * 16), "is no safetensors file"),
    "a shape beyond all memory": (header(entry("F32", [1 << 62, 1 << 62], 4), b"\0" * 4),
                                  "is no safetensors file"),
    "an unknown dtype": (header(entry("F99", [1, 32], 4), b"\0" * 4), "is no safetensors file"),
    "whole numbers": (tensors(soft_prompt=np.ones((4, 32), dtype=np.int64)), "numbers of type int64"),
    "NaN": (tensors(soft_prompt=np.full((4, 32), np.nan, np.float32)), "not finite"),
    "infinity in half precision": (tensors(soft_prompt=np.full((4, 32), np.inf, np.float16)), "not finite"),
    "another width": (tensors(soft_prompt=np.zeros((4, 48), np.float32)), "width 48), but tiny has width 32"),
    "three dimensions": (tensors(soft_prompt=np.zeros((1, 4, 32), np.float32)), "3 dimensions"),
    "no tokens": (tensors(soft_prompt=np.zeros((0, 32), np.float32)), "0 × 32"),
    "too many tokens": (tensors(soft_prompt=np.zeros((5000, 32), np.float32)), "5,000 tokens"),
    "another tensor": (tensors(weight=np.zeros((4, 32), np.float32)), "holds weight"),
    "a second tensor": (tensors(soft_prompt=np.zeros((4, 32), np.float32), more=np.zeros(2, np.float32)),
                        "one tensor"),
}  # fmt: skip
TABLES = {
    "a zip bomb as csv": ("x.csv", BOMB, "is not UTF-8"),
    "a million columns": ("x.csv", b"query,class" + b",a" * 1_000_000 + b"\nq\n", "1,000,002 columns"),
    "a row of a million cells": ("x.csv", b"query,class\nq,harmful" + b",a" * 1_000_000, "columns"),
    "rows without end": ("x.csv", b"query,class\n" + b"q,harmful\n" * 150_000, "100,001 rows"),
    "one endless cell": ("x.csv", b"query,class\n" + b"q" * 1_000_000 + b",harmful\n", "is not csv"),
    "json deeper than any stack": ("x.jsonl", b"[" * 200_000 + b"]" * 200_000, "is not JSON"),
    "a pair beyond all numbers": (
        "x.jsonl", b'{"query": "q", "class": "harmful", "pair": 1' + b"0" * 4000 + b"}", "pair is"),
    "more than is read": ("x.csv", b"query,class\n" + b"q" * 21_000_000, "at most 20 MB"),
    "a program called a table": ("x.csv", b"\x7fELF\x02\x01\x01\x00" + b"\xff" * 64, "is not UTF-8"),
    "a page": ("x.html", b"<script>alert(1)</script>", "the class is ''"),
    "a query longer than any": ("x.jsonl", json.dumps({"query": "q" * 9000, "class": "harmful"}).encode(),
                                "9,000 characters"),
    "a lone surrogate": ("x.jsonl", b'{"query": "\\ud800", "class": "harmful"}', "lone surrogate"),
    "a query that is none": ("x.jsonl", b'{"query": {"a": 1}, "class": "harmful"}', "text, not dict"),
}  # fmt: skip


def told(call):
    """The message of the error; anything but one of ours fails."""
    with pytest.raises(DroError) as caught:
        call()
    assert caught.value.remedy, "says what to do"
    return str(caught.value)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_file_that_is_none_is_refused(name, tmp_path):
    content, part = PROMPTS[name]
    path = tmp_path / "soft_prompt.safetensors"
    path.write_bytes(content)
    assert part in told(lambda: prompts.load(path, 32, "tiny"))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_none_is_refused(name, tmp_path):
    file, content, part = TABLES[name]
    path = tmp_path / file
    path.write_bytes(content)
    assert part in told(lambda: data.read_labelled(path))
    assert part in told(lambda: chosen_sets([], str(path), 50))


def test_there_are_enough_of_them_and_they_cost_no_memory(tmp_path):
    assert len(PROMPTS) + len(TABLES) >= 25
    files = [
        (tmp_path / "p.safetensors", c, lambda p: prompts.load(p, 32, "tiny")) for c, _ in PROMPTS.values()
    ]
    files += [(tmp_path / f, c, data.read_labelled) for f, c, _ in TABLES.values()]

    def all_of_them():
        for path, content, read in files:
            path.write_bytes(content)
            told(lambda read=read, path=path: read(path))

    all_of_them()  # what Python keeps for later is taken once
    before = memory.resident()
    for _ in range(3):
        all_of_them()
    assert memory.resident() - before < 50_000_000


def test_a_card_beside_a_prompt_is_checked_too(tmp_path):
    (tmp_path / "soft_prompt.safetensors").write_bytes(tensors(soft_prompt=np.zeros((2, 32), np.float32)))
    for text in ("[" * 100_000, '{"init_text": 7}', '{"init_text": "\\ud800"}', "{", '{"init_text": ""}'):
        (tmp_path / "dro_prompt.json").write_text(text)
        assert "is damaged" in told(lambda: prompts.load(tmp_path, 32, "tiny"))


@pytest.mark.parametrize("name", ["../../etc/passwd.csv", "a/b.csv", "<b>x</b>.csv", "x" * 250 + ".csv"])
def test_a_file_is_named_by_its_last_part_and_shortly(name, tmp_path):
    path = tmp_path / name.replace("/", "_")
    path.write_bytes(b"query,class\nq,harmful\nr,harmless\n")
    found = data.read_labelled(path)
    assert "/" not in found.name and len(found.name) <= 80
