"""What lies in the store, and its removal."""

import json
import os
import time

import pytest

from dro import run_folder, stored
from dro.cli import main
from dro.errors import DataError


@pytest.fixture
def full(own_cache):
    for name, content in (
        ("models/tiny/config.json", "{}"), ("models/tiny/w.safetensors", "x" * 1000),
        ("spaces/tiny-fp32/space.json", "{}"), ("runs/tiny-fp32/dro-short-1/config.json", "{}"),
        ("runs/tiny-fp32/dro-short-2/config.json", "{}"), ("shards/ab.json", "{}"),
        ("runs/tiny-fp32/.trash/dro-short-3/config.json", "{}"), ("benchmarks/xstest/x.csv", "a"),
        ("models/.tiny.ab12cd_9", "half"), ("mine.txt", "not ours"),
    ):  # fmt: skip
        (own_cache / name).parent.mkdir(parents=True, exist_ok=True)
        (own_cache / name).write_text(content)
    return own_cache


def there(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_everything_is_shown_with_its_size(full, capsys):
    assert main(["clean", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {each["kind"] for each in told["kept"]} == set(stored.KINDS)
    assert len([each for each in told["kept"] if each["kind"] == "runs"]) == 2
    assert next(each for each in told["kept"] if each["kind"] == "models")["bytes"] >= 1002
    assert main(["clean"]) == 0
    assert all(kind in capsys.readouterr().out for kind in ("models",))


def test_only_what_is_named_goes(full, capsys):
    before = there(full)
    assert main(["clean", "--remove", "runs", "--remove", "shards", "--yes"]) == 0
    gone = set(before) - set(there(full))
    assert gone == {
        "runs/tiny-fp32/dro-short-1/config.json", "runs/tiny-fp32/dro-short-2/config.json", "shards/ab.json",
    }  # fmt: skip


def test_deleted_runs_go_by_their_own_name(full):
    assert [each.path.name for each in stored.kept() if each.kind == "trash"] == ["dro-short-3"]
    before = there(full)
    stored.remove(["runs"])
    assert "runs/tiny-fp32/.trash/dro-short-3/config.json" in there(full)
    stored.remove(["trash"])
    assert set(before) - set(there(full)) == {
        f"runs/tiny-fp32/{name}/config.json" for name in ("dro-short-1", "dro-short-2", ".trash/dro-short-3")
    }


def test_all_is_all_of_ours_and_nothing_else(full):
    assert main(["clean", "--remove", "all", "--yes"]) == 0
    assert there(full) == ["mine.txt"]


def test_what_is_young_stays_where_it_is_asked(full):
    old = full / "runs" / "tiny-fp32" / "dro-short-1"
    for path in (old, old / "config.json"):
        os.utime(path, (time.time() - 10 * 86400,) * 2)
    gone, _ = stored.remove(["runs"], older=5)
    assert [each.path.name for each in gone] == ["dro-short-1"]


def test_a_run_that_is_going_on_stays(full):
    import subprocess
    import sys

    folder = full / "runs" / "tiny-fp32" / "dro-short-1"
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom dro import run_folder\n"
        "run_folder.hold(Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        gone, left = stored.remove(["runs"])
        assert [each.path.name for each in gone] == ["dro-short-2"] and "being worked on" in left[0]
    finally:
        other.kill()
        other.wait()
    assert (folder / run_folder.LOCK_FILE).exists()


def test_links_are_removed_and_never_followed(full, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "x").write_text("x")
    (full / "models" / "link").symlink_to(tmp_path / "precious")
    stored.remove(["models"])
    assert not (full / "models" / "link").is_symlink() and (tmp_path / "precious" / "x").exists()


def test_a_kind_that_is_none_is_refused(full, capsys):
    assert main(["clean", "--remove", "everything", "--yes"]) == 1
    assert "Nothing is stored under the name 'everything'" in capsys.readouterr().err
    with pytest.raises(DataError):
        stored.remove(["/etc"])


def test_nothing_goes_without_a_yes(full, monkeypatch):
    before = there(full)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert main(["clean", "--remove", "all"]) != 0
    assert there(full) == before
