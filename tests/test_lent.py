"""A GPU that is lent by the call, with a stand-in for `spaces` that forks and pickles as the package does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dro import recipes
from dro.errors import DataError, DroError, StoreError, Travelling
from explorer import gpu, lent

HERE = Path(__file__).parent


def worked(folder, cache, log=None):
    """What tests/lent_work.py tells."""
    paths = [str(HERE.parent), str(HERE), *([str(HERE / "stubs")] if log else [])]
    more = {"SPACES_ZERO_GPU": "1", "SPACES_LOG": str(log)} if log else {}
    environment = {k: v for k, v in os.environ.items() if k not in ("SPACES_ZERO_GPU", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, str(HERE / "lent_work.py"), str(folder)],
        env=environment | {"PYTHONPATH": os.pathsep.join(paths), "DRO_CACHE": str(cache)} | more,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def both(tiny_folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("lent")
    own = worked(tiny_folder, place / "own")
    return own, worked(tiny_folder, place / "lent", place / "log"), place / "log"


def test_a_lent_gpu_gives_what_the_machine_itself_gives(both):
    own, there, _ = both
    assert there["points"] == own["points"] and there["answers"] == own["answers"]
    assert own["run"]["phase"] == "done" and len(own["run"]["losses"]) == 3
    assert there["run"] == own["run"]
    assert there["refusal"] == own["refusal"] == "This cannot be. Ask otherwise."


def test_every_call_says_its_seconds_and_training_says_them_by_its_steps(both):
    _, there, log = both
    noted = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = {name for _, name, _ in noted}
    assert kinds >= {"places", "words", "begun", "steps", "finished", "states", "answered", "held_out"}
    assert {function for function, name, _ in noted if name in ("words", "steps")} == {"_follow"}
    assert all(gpu.READY < seconds <= gpu.MOST for _, _, seconds in noted)
    (trained,) = [seconds for _, name, seconds in noted if name == "steps"]
    assert trained == there["expected"]["steps"] < there["expected"]["longer"]


def test_a_long_run_is_asked_for_in_pieces_that_fit():
    config = recipes.config("best")
    count = lent.piece(config)
    assert 1 <= count < config.steps
    fits = lent._before(config) + count * lent.step_seconds(config)
    assert fits <= gpu.MOST - gpu.READY - 1 < fits + lent.step_seconds(config)
    assert gpu.duration("steps", config, Path("x"), 200, 200) == gpu.MOST  # never more than may be asked for


@pytest.mark.parametrize("error", [DataError("a.", "b."), StoreError("c."), DroError("d.", "e.")])
def test_an_error_of_ours_travels_with_cause_and_remedy(error):
    back = Travelling.of(error).error()
    assert (type(back), back.cause, back.remedy) == (type(error), error.cause, error.remedy)
    assert type(Travelling("Path", "a.", "").error()) is DroError


def test_without_such_a_space_nothing_is_lent():
    assert not gpu.LENT and gpu._call.__name__ == "_call" and "spaces" not in sys.modules
