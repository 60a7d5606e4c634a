"""Kills, full disks, stores that are closed, two servers on one store, models that compute nothing."""

import errno
import os
import random
import subprocess
import sys
from dataclasses import replace

import kills
import numpy as np
import pytest
import torch
from conftest import chat_model, pairs, random_space

from dro import fitting, prompts, run_folder, shards, space, store
from dro.errors import ModelError, StoreError
from dro.generate import Decoding
from dro.optimise import Optimisation
from dro.recipes import config
from dro.states import last_token_states, states_of
from explorer.gpu import Bench
from explorer.runs import Runs
from explorer.turns import Turns

SETTINGS = config("paper", steps=4, batch=6, lr=0.01, validate_every=2)


def optimisation(model, there, folder):
    return Optimisation(model, there, SETTINGS, pairs(12), pairs(6, "held-out"), folder)


@pytest.mark.parametrize("name", ["download", "optimise", "evaluate"])
def test_what_was_killed_goes_on_to_the_same_bytes(name, tmp_path):
    done, ended = kills.campaign(name, 2, random.Random(3), tmp_path)
    assert done >= 2 and ended >= 1


def full(monkeypatch, after):
    """From the n-th write on, the disk is full."""
    original, count = os.fsync, [0]

    def fsync(descriptor):
        count[0] += 1
        if count[0] > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("after", [1, 5, 9, 12])
def test_a_run_that_meets_a_full_disk_goes_on_to_the_same_bytes(tiny, space, tmp_path, monkeypatch, after):
    whole = optimisation(tiny, space, tmp_path / "whole")
    list(whole.steps())
    expected = whole.finish().vectors
    with monkeypatch.context() as patch, pytest.raises(StoreError, match=r"No space left.*Free some"):
        full(patch, after)
        task = optimisation(tiny, space, tmp_path / "run")
        list(task.steps())
        task.finish()
    task = optimisation(tiny, space, tmp_path / "run")
    list(task.steps())
    assert np.array_equal(task.finish().vectors, expected)
    assert [s.step for s in task.curve] == [1, 2, 3, 4]


def test_a_closed_store_is_told_before_anything_is_computed(tiny, space, tmp_path, raised, monkeypatch):
    (tmp_path / "file").write_text("")
    message = raised(lambda: optimisation(tiny, space, tmp_path / "file" / "run"), StoreError)
    assert "cannot be written" in message
    runs = Runs(Bench(tiny, space, None, 1e5), tmp_path / "file" / "runs", Turns())
    settings = SETTINGS.model_copy(update={"space": "", "target": "absolute"})
    assert "DRO_CACHE" in raised(lambda: runs.start(settings, "quick"), StoreError)
    assert runs.names() == []
    runs.close()


def test_a_store_that_vanished_is_told_and_nothing_is_lost(tiny, space, tmp_path):
    import shutil

    task = optimisation(tiny, space, tmp_path / "run")
    steps = task.steps()
    next(steps)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(StoreError, match="cannot be written"):
        list(steps)
    assert task.done >= 1  # what it learnt is still in memory


def test_a_second_process_cannot_take_a_run_that_is_going_on(tiny, space, tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom dro import run_folder\n"
        "run_folder.hold(Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="Another process is working on"):
            optimisation(tiny, space, tmp_path / "run")
    finally:
        other.kill()
        other.wait()
    task = optimisation(tiny, space, tmp_path / "run")  # a killed process holds nothing
    list(task.steps())
    task.finish()
    assert str(tmp_path / "run") not in run_folder._held  # another process may have it now


def test_two_servers_give_their_runs_different_names(tiny, space, tmp_path):
    servers = [Runs(Bench(tiny, space, None, 1e5), tmp_path, Turns()) for _ in range(2)]
    settings = SETTINGS.model_copy(update={"space": "", "target": "absolute"})
    for server in servers:
        server._waiting = type(server._waiting)()  # nothing is begun
    names = [server.start(settings, "quick").name for server in servers for _ in range(2)]
    assert len(set(names)) == 4
    for server in servers:
        server.close()


def test_a_kill_while_a_run_was_claimed_leaves_a_folder_that_can_be_claimed(tiny, space, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.ab12cd_9").write_text("{")
    (tmp_path / "run" / ".lock").write_text("")
    assert [p.name for p in store.leftovers(tmp_path / "run")] == [".config.json.ab12cd_9"]
    assert next(optimisation(tiny, space, tmp_path / "run").steps()).step == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(StoreError, match="holds other files"):
        optimisation(tiny, space, tmp_path / "other")


def test_a_space_of_two_fits_is_refused(tiny, space, anchors, tmp_path):
    from dro import space as module

    module.save(space, tmp_path)
    arrays = (tmp_path / module.ARRAYS_FILE).read_bytes()
    module.save(random_space(tiny, anchors, m=3), tmp_path)
    (tmp_path / module.ARRAYS_FILE).write_bytes(arrays)
    with pytest.raises(StoreError, match="another fit"):
        module.load(tmp_path)


def test_a_model_that_computes_no_numbers_is_named(space):
    broken = chat_model()
    broken.model.model.norm.weight.data.fill_(float("nan"))
    prompt = prompts.resolve("short", broken)
    for call in (
        lambda: last_token_states(broken, prompt, ["How?"]),
        lambda: states_of(broken, [(prompt, "How?")]),
    ):
        with pytest.raises(ModelError, match=r"tiny in fp32 gives states that are not finite\. Load it in"):
            call()
    with pytest.raises(ModelError, match="not finite"):
        fitting.fit(broken, pairs(12), labels=Decoding(2))


def test_finished_parts_are_taken_up_and_not_shared(tmp_path):
    made = []

    def work(value):
        made.append(value)
        return [value]

    one = shards.Shards({"model": "a"}, tmp_path)
    assert one.part({"n": 1}, lambda: work(1)) == [1] == one.part({"n": 1}, lambda: work(2))
    again = shards.Shards({"model": "a"}, tmp_path)
    assert again.part({"n": 1}, lambda: work(3)) == [1] and made == [1]
    assert shards.Shards({"model": "b"}, tmp_path).part({"n": 1}, lambda: work(4)) == [4]
    [mine] = [p for p in tmp_path.iterdir() if store.read_json(p)["part"] == [1]]
    assert mine.stat().st_mode & 0o777 == 0o600
    mine.write_text("{")
    assert again.part({"n": 1}, lambda: work(5)) == [5]
    again.clear()
    assert not mine.exists() and len(list(tmp_path.iterdir())) == 1


def test_parts_that_cannot_be_kept_are_no_failure(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    closed = shards.Shards({}, tmp_path / "file" / "shards")
    assert closed.part({}, lambda: 7) == 7 and "not kept" in caplog.text


def test_an_unbroken_fit_and_one_in_parts_are_the_same(tiny, tmp_path):
    labels = Decoding(2, samples=2, temperature=1.0)
    plain = fitting.fit(tiny, pairs(6), labels=labels)
    parts = shards.Shards({}, tmp_path)
    fitting.fit(tiny, pairs(6), labels=labels, shards=parts)
    again = fitting.fit(tiny, pairs(6), labels=labels, shards=shards.Shards({}, tmp_path))
    space.save(plain, tmp_path / "plain")
    space.save(again, tmp_path / "again")
    for name in (space.ARRAYS_FILE, space.DESCRIPTION_FILE):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert torch.is_tensor(torch.ones(1)) and replace(plain).name == again.name
