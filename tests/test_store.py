"""Files of ours: all or nothing, and named where they are damaged."""

import os
import stat
from pathlib import Path

import pytest

from dro import store
from dro.errors import StoreError


def test_what_is_written_is_read_back(tmp_path):
    content = {"a": [1, 2.5, None], "é": "🎉"}
    store.write_json(tmp_path / "new" / "x.json", content)
    assert store.read_json(tmp_path / "new" / "x.json") == content


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x"
    store.write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        store.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


def test_nothing_is_ever_half_there(tmp_path, monkeypatch):
    """At the moment of replacing, the whole content already lies on disk."""
    path, seen = tmp_path / "x", []
    original = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: seen.append(Path(a).read_bytes()) or original(a, b))
    store.write_bytes(path, b"whole")
    assert seen == [b"whole"] and path.read_bytes() == b"whole"


def test_others_may_read_what_was_written(tmp_path):
    store.write_bytes(tmp_path / "x", b"")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_a_full_disk_is_told(tmp_path, monkeypatch, raised):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = raised(lambda: store.write_bytes(tmp_path / "x", b"y"), StoreError)
    assert "No space left" in message and "Free some space" in message
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_is_told(tmp_path, raised):
    (tmp_path / "file").write_text("")
    message = raised(lambda: store.write_bytes(tmp_path / "file" / "x", b"y"), StoreError)
    assert "cannot be written" in message and "Choose a folder" in message


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\x00"])
def test_a_damaged_file_is_named(tmp_path, raised, content):
    (tmp_path / "x.json").write_text(content)
    assert "x.json is damaged" in raised(lambda: store.read_json(tmp_path / "x.json"), StoreError)


def test_a_file_that_is_not_utf8_is_damaged(tmp_path):
    (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(StoreError, match="damaged"):
        store.read_json(tmp_path / "x.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        store.read_json(tmp_path / "nowhere.json")


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError):
        store.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == []


def test_hashes_name_the_content_whatever_the_order_of_keys():
    one, two = {"a": 1, "b": "é"}, {"b": "é", "a": 1}
    assert store.content_hash(one) == store.content_hash(two) != store.content_hash({"a": 1, "b": "e"})
    assert len(store.content_hash([])) == 64
