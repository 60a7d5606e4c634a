"""Runs are renamed, deleted and brought back, on the tiny model."""

import shutil
import subprocess
import sys

import pytest
from test_runs import bench, config, wait

from dro import run_folder, store
from dro.errors import DataError
from dro.run_folder import TRASH
from explorer.runs import Runs
from explorer.turns import Turns


@pytest.fixture(scope="module")
def trained(tiny, space, tmp_path_factory):
    """Folders of two short runs, made once."""
    folder = tmp_path_factory.mktemp("runs")
    runs = Runs(bench(tiny, space), folder, Turns())
    for steps in (2, 3):
        run = runs.start(config(steps=steps), "quick", key="secret")
        wait(run, "done")
    runs.close()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def opened(tiny, space, folder):
    made = []

    def open_runs():
        made.append(Runs(bench(tiny, space), folder, Turns()))
        return made[-1]

    yield open_runs
    for runs in made:
        runs.close()


def test_a_renamed_run_is_the_same_run_here_and_after_a_restart(opened, folder):
    runs = opened()
    before = runs.prompt("dro-short-1").digest
    rows = [(r.label, r.refused) for r in runs.get("dro-short-1").rates]
    runs.rename("dro-short-1", " Careful one.2 ")
    for each in (runs, opened()):
        assert each.names() == ["Careful one.2", "dro-short-2"], "its place in the list stays"
        run = each.get("Careful one.2")
        assert each.prompt(run.name).digest == before and run.folder == folder / "Careful one.2"
        assert [(r.label, r.refused) for r in run.rates] == rows
        assert [r.prompt for r in run.rates] == ["short"] * 2 + ["Careful one.2"] * 2
        assert run.owned_by(["secret"]) and not run.owned_by(["other"])
        with pytest.raises(DataError):
            each.get("dro-short-1")


@pytest.mark.parametrize(
    "name", ["", " ", "../x", "a/b", ".hidden", "a" * 41, "none", "Short", "x~2", "<b>", "text:x", "ends.", 7,
             None, "template+short", "n\0ul"],
)  # fmt: skip
def test_names_that_are_none_are_refused(opened, folder, name):
    runs = opened()
    with pytest.raises(DataError, match="no name for a run"):
        runs.rename("dro-short-1", name)
    assert sorted(p.name for p in folder.iterdir()) == ["dro-short-1", "dro-short-2"]


def test_a_name_that_is_taken_is_refused_however_it_is_written(opened, raised):
    runs = opened()
    assert "already" in raised(lambda: runs.rename("dro-short-1", "DRO-short-2"), DataError)
    assert runs.rename("dro-short-1", "dro-short-1").name == "dro-short-1"


def test_a_deleted_run_comes_back_whole_here_and_after_a_restart(opened, folder):
    runs = opened()
    before = {p.name: p.read_bytes() for p in (folder / "dro-short-1").iterdir() if p.is_file()}
    thrown = runs.delete("dro-short-1")
    assert runs.names() == ["dro-short-2"] and runs.usable() == ["dro-short-2"]
    assert runs.anchor_states("dro-short-1") is None
    assert not (folder / "dro-short-1").exists() and (folder / TRASH / thrown).is_dir()
    later = opened()
    assert later.names() == ["dro-short-2"] and [r.name for r in later.trash().values()] == ["dro-short-1"]
    assert later.thrown(thrown).owned_by(["secret"])
    assert later.restore(thrown).name == "dro-short-1"
    assert later.names() == ["dro-short-1", "dro-short-2"] and not later.trash()
    after = {p.name: p.read_bytes() for p in (folder / "dro-short-1").iterdir() if p.is_file()}
    assert {name: after[name] for name in before} == before
    assert later.prompt("dro-short-1").vectors is not None


def test_two_of_one_name_in_the_trash_are_two(opened, raised):
    runs = opened()
    first = runs.delete("dro-short-1")
    digest = runs.prompt("dro-short-2").digest
    runs.restore(first)
    runs.rename("dro-short-1", "a")
    first = runs.delete("a")
    runs.rename("dro-short-2", "b")
    second = runs.delete("b")
    assert raised(lambda: runs.get("a"), DataError) and list(runs.trash()) == [second, first]
    runs.restore(second)
    assert "already" in raised(lambda: runs.rename("b", "a"), DataError), "its name waits for its return"
    assert runs.prompt("b").digest == digest and runs.restore(first).name == "a"


def test_a_number_is_never_given_twice(opened):
    runs = opened()
    runs.rename("dro-short-2", "mine")
    thrown = runs.delete("dro-short-1")
    run = runs.start(config(steps=1), "quick")
    assert run.name == "dro-short-3"
    wait(run, "done")
    runs.delete(run.name)
    again = runs.start(config(steps=1), "quick")
    assert again.name == "dro-short-4" and thrown in runs.trash()
    wait(again, "done")


def test_what_is_going_on_stays(opened, raised):
    runs = opened()
    run = runs.start(config(steps=500), "quick")
    for change in (lambda: runs.delete(run.name), lambda: runs.rename(run.name, "x")):
        assert "not over" in raised(change, DataError)
    run.stop.set()
    while not run.over:
        pass


def test_what_another_process_works_on_stays_and_no_path_is_told(opened, folder, raised):
    runs = opened()
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom dro import run_folder\n"
        "run_folder.hold(Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "dro-short-1")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        told = raised(lambda: runs.delete("dro-short-1"), DataError)
        assert "being worked on" in told and str(folder) not in told
    finally:
        other.kill()
        other.wait()
    assert runs.delete("dro-short-1")


def test_what_is_not_in_the_trash_cannot_come_back(opened, folder, raised):
    runs = opened()
    for odd in ("", "dro-short-1", "../dro-short-2", None, 7):
        assert "not in the trash" in raised(lambda odd=odd: runs.restore(odd), DataError)
    thrown = runs.delete("dro-short-1")
    shutil.rmtree(folder / TRASH / thrown)  # python -m dro clean --remove trash
    assert runs.trash() == {}
    (folder / TRASH / "junk").mkdir()
    assert opened().trash() == {}


def test_a_run_whose_trash_was_emptied_is_gone_and_its_name_is_free(opened, folder, raised):
    runs = opened()
    name = runs.all()[0].name
    thrown = runs.delete(name)
    shutil.rmtree(folder / TRASH)
    assert "not in the trash any more" in raised(lambda: runs.restore(thrown), DataError)
    assert not (folder / TRASH).exists()
    assert runs.rename(runs.all()[0].name, name).name == name


def test_a_folder_that_is_held_here_does_not_move(opened, raised):
    runs = opened()
    run = runs.all()[0]
    run_folder.hold(run.folder)
    try:
        assert "being worked on" in raised(lambda: runs.rename(run.name, "other"), DataError)
    finally:
        run_folder.release(run.folder)


def test_a_run_that_kept_nothing_only_leaves_the_list(opened, raised):
    runs = opened()
    first, second = runs.start(config(steps=500), "quick"), runs.start(config(), "quick")
    second.stop.set()
    first.stop.set()
    wait(second, "stopped")
    assert "kept nothing" in raised(lambda: runs.rename(second.name, "x"), DataError)
    assert runs.delete(second.name) == "" and second.name not in runs.names()
    assert store.read_json(runs.get("dro-short-1").folder / run_folder.CONFIG_FILE)["config"]["steps"] == 2
