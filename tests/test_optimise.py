"""Training a soft prompt: exact at the start, resumable to the bit, and never touching the model."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import chat_model, pairs, random_space
from pydantic import ValidationError
from safetensors.torch import load_file

from dro import first_token, gradients, optimise, prompts, run_folder, states, store
from dro.data import QuerySet
from dro.draws import batch_rows
from dro.errors import DataError, ModelError, StoreError
from dro.objective import Objective
from dro.optimise import Optimisation
from dro.recipes import Config
from dro.recipes import config as recipe
from dro.run_folder import CHECKPOINT_FILE, CONFIG_FILE, STATES_FILE, STEPS_FILE, Step, read_curve

TRAIN, HELD_OUT = pairs(12), pairs(6, "held-out")
CONFIG = recipe("paper", steps=4, batch=6, lr=0.01, validate_every=2)


def run(model, space, folder, config=CONFIG, train=TRAIN, held_out=HELD_OUT):
    return Optimisation(model, space, config, train, held_out, folder)


def test_each_update_yields_a_step_that_is_on_disk(tiny, space, tmp_path):
    task = run(tiny, space, tmp_path / "run")
    seen = []
    for step in task.steps():
        seen.append(step)
        assert read_curve(tmp_path / "run") == seen == task.curve
        assert int(load_file(tmp_path / "run" / CHECKPOINT_FILE)["step"]) == step.step
    assert [s.step for s in seen] == [1, 2, 3, 4]
    assert [s.validation is not None for s in seen] == [False, True, False, True]
    assert all(s.gradient_norm > 0 and math.isfinite(s.loss) and s.seconds > 0 for s in seen)


def test_the_first_loss_is_that_of_no_movement(tiny, space, tmp_path):
    """x_theta = x_0 before the first update: both logit differences are 0, and nothing lies outside V."""
    step = next(run(tiny, space, tmp_path / "run").steps())
    assert step.refusal == pytest.approx(math.log(2), abs=1e-6)
    assert step.harmfulness == pytest.approx(math.log(2), abs=1e-6)
    assert step.residual == pytest.approx(0, abs=1e-9)
    assert step.loss == pytest.approx(1.01 * math.log(2), abs=1e-6)


def test_training_lowers_the_loss_on_the_training_queries(tiny, space, tmp_path):
    config = recipe("paper", steps=12, batch=24, lr=0.02, validate_every=0)
    losses = [s.loss for s in run(tiny, space, tmp_path / "run", config, held_out=None).steps()]
    assert losses[-1] < losses[0] - 0.05


def test_only_the_vectors_get_gradients(tiny, space, tmp_path):
    task = run(tiny, space, tmp_path / "run")
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    list(task.steps())
    assert task.vectors.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in tiny.model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in tiny.model.named_parameters())


def test_vectors_and_moments_stay_in_float32(space, tmp_path):
    model = chat_model()
    model.model.to(torch.bfloat16)
    model.precision = "bf16"
    ours = random_space(model, TRAIN)
    task = run(model, ours, tmp_path / "run")
    step = next(task.steps())
    assert task.vectors.dtype == torch.float32
    kept = load_file(tmp_path / "run" / CHECKPOINT_FILE)
    assert {kept[k].dtype for k in ("vectors", "exp_avg", "exp_avg_sq")} == {torch.float32}
    assert step.refusal == pytest.approx(math.log(2), abs=1e-6)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


@pytest.fixture(scope="module")
def unbroken(tiny, space, tmp_path_factory):
    """The vectors, steps and folder of a run that nothing stopped."""
    task = run(tiny, space, tmp_path_factory.mktemp("unbroken") / "run")
    steps = list(task.steps())
    return task.vectors.detach().clone(), steps, task.folder


def same(task, unbroken):
    vectors, steps, _ = unbroken
    assert torch.equal(task.vectors.detach(), vectors)
    drop = {"seconds": 0.0}
    assert [{**vars(s), **drop} for s in task.curve] == [{**vars(s), **drop} for s in steps]
    lines = (task.folder / STEPS_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [s.step for s in steps]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_bits(tiny, space, tmp_path, unbroken, stop):
    first = run(tiny, space, tmp_path / "run").steps()
    for _ in range(stop):
        next(first)
    first.close()
    again = run(tiny, space, tmp_path / "run")
    assert again.done == stop
    assert [s.step for s in again.steps()] == list(range(stop + 1, 5))
    same(again, unbroken)


def test_without_the_moments_a_resumed_run_would_differ(tiny, space, tmp_path, unbroken):
    first = run(tiny, space, tmp_path / "run").steps()
    next(first), next(first)
    again = run(tiny, space, tmp_path / "run")
    again._optimiser.state.clear()
    list(again.steps())
    assert not torch.equal(again.vectors.detach(), unbroken[0])


def test_a_kill_between_curve_and_checkpoint_takes_the_step_again(
    tiny, space, tmp_path, unbroken, monkeypatch
):
    task = run(tiny, space, tmp_path / "run")
    steps = task.steps()
    next(steps), next(steps)
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_bytes", lambda *a: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            next(steps)
    assert len(read_curve(tmp_path / "run")) == 3
    again = run(tiny, space, tmp_path / "run")
    assert again.done == 2
    list(again.steps())
    same(again, unbroken)


def test_a_last_line_that_was_cut_off_is_written_anew(tiny, space, tmp_path, unbroken):
    steps = run(tiny, space, tmp_path / "run").steps()
    next(steps), next(steps)
    with (tmp_path / "run" / STEPS_FILE).open("a") as stream:
        stream.write('{"step": 3, "loss": 0.1')
    again = run(tiny, space, tmp_path / "run")
    list(again.steps())
    same(again, unbroken)


@pytest.mark.parametrize("cut", [None, 20])
def test_a_kill_before_the_first_checkpoint_starts_a_clean_curve(
    tiny, space, tmp_path, unbroken, monkeypatch, cut
):
    task = run(tiny, space, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_checkpoint", lambda *a: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            next(task.steps())
    path = tmp_path / "run" / STEPS_FILE
    path.write_text(path.read_text()[:cut])
    again = run(tiny, space, tmp_path / "run")
    list(again.steps())
    same(again, unbroken)


def test_a_finished_run_has_nothing_left_to_do(tiny, space, unbroken):
    again = run(tiny, space, unbroken[2])
    assert again.done == 4 and list(again.steps()) == []
    same(again, unbroken)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"lr": 0.02}, "lr"), ({"seed": 1}, "seed"), ({"steps": 5}, "steps"), ({"init": "mistral"}, "init")],
)
def test_another_configuration_in_the_same_folder_is_refused(tiny, space, tmp_path, raised, change, named):
    next(run(tiny, space, tmp_path / "run").steps())
    before = sorted(p.read_bytes() for p in (tmp_path / "run").iterdir())
    other = CONFIG.model_copy(update=change)
    message = raised(lambda: run(tiny, space, tmp_path / "run", other), StoreError)
    assert named in message and "new folder" in message
    assert sorted(p.read_bytes() for p in (tmp_path / "run").iterdir()) == before


def test_other_training_queries_in_the_same_folder_are_refused(tiny, space, tmp_path, raised):
    run(tiny, space, tmp_path / "run")
    message = raised(lambda: run(tiny, space, tmp_path / "run", train=pairs(11)), StoreError)
    assert "train" in message


def test_a_folder_with_other_files_is_refused(tiny, space, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="other files"):
        run(tiny, space, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other tensors", "other width"])
def test_a_damaged_checkpoint_is_named(tiny, space, tmp_path, raised, damage):
    from safetensors.torch import save

    next(run(tiny, space, tmp_path / "run").steps())
    path = tmp_path / "run" / CHECKPOINT_FILE
    kept = load_file(path)
    path.write_bytes(
        {
            "cut": path.read_bytes()[:-40],
            "garbage": b"\xff" * 100,
            "empty": b"",
            "other tensors": save({"x": torch.zeros(1)}),
            "other width": save({**kept, "vectors": torch.zeros(2, 2)}),
        }[damage]
    )
    message = raised(lambda: run(tiny, space, tmp_path / "run"), StoreError)
    assert str(path) in message and "Delete" in message


def test_a_damaged_configuration_is_named(tiny, space, tmp_path, raised):
    run(tiny, space, tmp_path / "run")
    (tmp_path / "run" / CONFIG_FILE).write_text('{"config": ')
    assert "config.json" in raised(lambda: run(tiny, space, tmp_path / "run"), StoreError)


def test_a_finished_prompt_loads_back(tiny, space, tmp_path):
    task = run(tiny, space, tmp_path / "run")
    list(task.steps())
    made = task.finish()
    loaded = prompts.resolve(str(tmp_path / "run"), tiny)
    assert np.array_equal(loaded.vectors, task.vectors.detach().numpy())
    assert loaded.text == prompts.HUMAN["short"] and loaded.digest == made.digest
    card = json.loads((tmp_path / "run" / prompts.CARD_FILE).read_text())
    assert card["steps"] == 4 and card["base_model"] == "tiny" and card["space"] == space.name


def test_finishing_writes_the_states_before_and_after(tiny, space, tmp_path):
    from dro.states import last_token_states

    task = run(tiny, space, tmp_path / "run")
    list(task.steps())
    prompt = task.finish()
    kept = load_file(tmp_path / "run" / STATES_FILE)
    before = last_token_states(tiny, prompts.resolve("short", tiny), space.anchors.queries)
    after = last_token_states(tiny, prompt, space.anchors.queries)
    assert np.allclose(kept["before"], before, atol=1e-4) and np.allclose(kept["after"], after, atol=1e-4)
    assert not np.allclose(before, after, atol=1e-2)


def test_a_prompt_is_usable_before_the_states_before_it_are_measured(tiny, space, tmp_path):
    task, seen = run(tiny, space, tmp_path / "run"), []
    list(task.steps())

    def usable(prompt):
        written = prompts.resolve(str(tmp_path / "run"), tiny)
        assert np.array_equal(written.vectors, prompt.vectors)
        seen.append(set(load_file(tmp_path / "run" / STATES_FILE)))

    task.finish(usable)
    assert seen == [{"after"}]
    assert set(load_file(tmp_path / "run" / STATES_FILE)) == {"before", "after"}


@pytest.mark.parametrize(
    ("choose", "score"),
    [
        ("mass", lambda seen: seen["mass_harmful"] - seen["mass_harmless"]),
        ("loss", lambda seen: -seen["loss"]),
    ],
)
def test_the_best_step_on_held_out_queries_is_kept(choose, score, tiny, space, tmp_path):
    """By mass, with weight w: the most harmful mass less w times the harmless one. By loss: the least."""
    from dataclasses import replace

    known = replace(space, openings=dict.fromkeys(range(0, 40), (1, 1)))
    config = CONFIG.model_copy(update={"steps": 6, "choose": choose, "validate_every": 1, "lr": 0.05})
    task = run(tiny, known, tmp_path / "run", config)
    seen, scores = [], []
    for step in task.steps():
        seen.append(task.vectors.detach().clone())
        scores.append(score(step.validation))
    best = int(np.argmax(scores))
    assert task.chosen == best + 1
    resumed = run(tiny, known, tmp_path / "run", config)
    assert resumed.chosen == best + 1
    assert np.array_equal(resumed.finish().vectors, seen[best].numpy())
    assert json.loads((tmp_path / "run" / prompts.CARD_FILE).read_text())["chosen"] == best + 1


def test_a_run_stopped_before_its_first_look_keeps_its_last_step(tiny, space, tmp_path):
    from dataclasses import replace

    known = replace(space, openings={3: (1, 1)})
    config = CONFIG.model_copy(update={"steps": 9, "choose": "mass", "validate_every": 8})
    task = run(tiny, known, tmp_path / "run", config)
    steps = task.steps()
    for _ in range(3):
        next(steps)
    assert task.chosen == 3
    assert np.array_equal(task.finish().vectors, task.vectors.detach().numpy())


def test_choosing_needs_what_it_reads(tiny, space, tmp_path, raised):
    from dataclasses import replace

    config = CONFIG.model_copy(update={"choose": "mass"})
    unknown = replace(space, openings={})
    assert "Fit it anew" in raised(lambda: run(tiny, unknown, tmp_path / "a", config), StoreError)
    known = replace(space, openings={3: (1, 1)})
    for choose in ("mass", "loss"):
        blind = config.model_copy(update={"choose": choose})
        message = raised(lambda b=blind: run(tiny, known, tmp_path / "b", b, held_out=None), DataError)
        assert "cannot be chosen without held-out queries" in message


def watched_passes(monkeypatch):
    """Sizes of the passes through the model, as they come."""
    placed, whole = [], optimise.packed_states
    for module in (optimise, gradients):
        monkeypatch.setattr(
            module, "packed_states", lambda m, own, *rest: placed.append(len(own)) or whole(m, own, *rest)
        )
    return placed


def test_only_drawn_queries_are_placed_before_training(tiny, space, tmp_path, monkeypatch):
    placed = watched_passes(monkeypatch)
    config = recipe("paper", steps=1, batch=4, validate_every=0)
    next(run(tiny, space, tmp_path / "run", config, train=pairs(40), held_out=None).steps())
    assert placed == [4, 4]  # the drawn ones at the start, then the step itself


def test_the_residual_on_anchors_needs_no_other_starting_states(tiny, space, tmp_path, monkeypatch):
    placed = watched_passes(monkeypatch)
    config = recipe("quick", target="absolute", steps=2, batch=4, validate_every=0, residual_on="anchors")
    others = [q for q in pairs(40).queries if q.text not in space.anchors.queries]
    train = QuerySet("mixed", (*(q for q in pairs(40).queries if q.text in space.anchors.queries), *others))
    drawn = np.concatenate([batch_rows(train.queries, config, step) for step in range(2)])
    anchors = {train.texts[row] for row in drawn} & set(space.anchors.queries)
    list(run(tiny, space, tmp_path / "run", config, train=train, held_out=None).steps())
    assert sum(placed[:-2]) == len(anchors) and placed[-2:] == [4, 4]


def test_training_on_the_first_token_raises_its_mass_on_harmful_queries_alone(tiny, space, tmp_path):
    known = replace(space, openings={7: (5, 5)})
    config = recipe("quick", target="first-token", ranking=0.5, residual_on="all", steps=12, batch=24,
                    lr=0.02, harmless_weight=1.0, validate_every=12)  # fmt: skip
    task = run(tiny, known, tmp_path / "run", config, held_out=TRAIN)
    first = next(task.steps())
    last = list(task.steps())[-1]
    gap = last.validation["mass_harmful"] - last.validation["mass_harmless"]
    start = states.last_token_states(tiny, prompts.resolve("short", tiny), TRAIN.texts)
    mass = first_token.mass(tiny, start, known.openings)
    harmful = np.array([q.harmful for q in TRAIN.queries])
    assert last.loss < first.loss
    assert gap > mass[harmful].mean() - mass[~harmful].mean()


def test_the_first_token_target_needs_known_openings(tiny, space, tmp_path, raised):
    config = recipe("quick", target="first-token", choose="last")
    unknown = replace(space, openings={})
    assert "opens a refusal" in raised(lambda: run(tiny, unknown, tmp_path / "run", config), StoreError)


def test_finishing_a_stopped_run_keeps_what_is_there(tiny, space, tmp_path):
    task = run(tiny, space, tmp_path / "run")
    next(task.steps())
    assert np.array_equal(task.finish().vectors, task.vectors.detach().numpy())
    resumed = run(tiny, space, tmp_path / "run")
    resumed.finish()
    assert (tmp_path / "run" / STATES_FILE).is_file()


def test_training_can_start_from_a_trained_prompt(tiny, space, tmp_path):
    first = run(tiny, space, tmp_path / "one")
    list(first.steps())
    first.finish()
    config = CONFIG.model_copy(update={"init": str(tmp_path / "one")})
    second = run(tiny, space, tmp_path / "two", config)
    assert torch.equal(second.vectors, first.vectors)
    assert next(second.steps()).refusal == pytest.approx(math.log(2), abs=1e-6)


def test_validation_is_the_loss_on_the_held_out_queries_after_the_update(tiny, space, tmp_path):
    from dro.states import last_token_states

    task = run(tiny, space, tmp_path / "run", CONFIG.model_copy(update={"steps": 2}))
    last = list(task.steps())[-1].validation
    start = torch.tensor(last_token_states(tiny, prompts.resolve("short", tiny), HELD_OUT.texts))
    states = torch.tensor(last_token_states(tiny, task.prompt(), HELD_OUT.texts))
    objective = Objective(
        *(
            torch.tensor(a, dtype=torch.float32)
            for a in (space.projection.basis, space.refusal.weight, space.harmfulness.weight)
        ),
        0.01,
        0.001,
    )
    labels = torch.tensor([float(q.harmful) for q in HELD_OUT.queries])
    assert last["loss"] == pytest.approx(objective(states, start, labels).total.item(), abs=1e-4)
    shift = ((states - start).numpy() @ space.projection.basis) @ space.refusal.weight
    assert last["refusal_shift_harmful"] == pytest.approx(shift[labels.bool().numpy()].mean(), abs=1e-3)
    assert last["refusal_shift_harmless"] == pytest.approx(shift[~labels.bool().numpy()].mean(), abs=1e-3)


def test_a_run_without_held_out_queries_works(tiny, space, tmp_path):
    steps = list(run(tiny, space, tmp_path / "run", held_out=None).steps())
    assert len(steps) == 4 and all(s.validation is None for s in steps)


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"batch": 1},
        {"lr": 0},
        {"lr": -1},
        {"lr": math.nan},
        {"lr": math.inf},
        {"seed": -1},
        {"harmfulness_weight": -1},
        {"harmfulness_weight": math.nan},
        {"validate_every": -1},
        {"nonsense": 1},
    ],
)
def test_configurations_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValidationError):
        Config(**fields)


def test_a_batch_larger_than_the_queries_is_refused(tiny, space, tmp_path):
    with pytest.raises(DataError, match="batch"):
        run(tiny, space, tmp_path / "run", Config(steps=1, batch=50))
    assert not (tmp_path / "run").exists()


def test_no_prompt_gives_nothing_to_train(tiny, space, tmp_path):
    with pytest.raises(DataError, match="no tokens to train"):
        run(tiny, space, tmp_path / "run", Config(init="none"))


def test_a_space_without_a_refusal_probe_cannot_train(tiny, bare_space, tmp_path):
    with pytest.raises(StoreError, match="refusal probe"):
        run(tiny, bare_space, tmp_path / "run")


def test_another_models_space_is_refused(space, tmp_path):
    other = chat_model()
    other.revision = "another"
    with pytest.raises(StoreError, match="belongs to"):
        run(other, space, tmp_path / "run")


def test_a_model_without_gradients_is_told(tiny, space, tmp_path, monkeypatch):
    original = gradients.packed_states
    silenced = lambda m, own, ids, v: original(m, own, ids, v.detach()) + 0 * v.sum()  # noqa: E731
    monkeypatch.setattr(gradients, "packed_states", silenced)
    with pytest.raises(ModelError, match="no gradient"):
        next(run(tiny, space, tmp_path / "run").steps())


def test_a_diverging_run_keeps_its_last_good_step(tiny, space, tmp_path, monkeypatch):
    task = run(tiny, space, tmp_path / "run")
    steps = task.steps()
    next(steps)
    good = task.vectors.detach().clone()
    original = gradients.packed_states
    monkeypatch.setattr(gradients, "packed_states", lambda *a: original(*a) * math.nan)
    assert list(steps) == [] and "Step 2 diverged" in task.diverged and "Step 1 is kept" in task.diverged
    assert torch.equal(load_file(tmp_path / "run" / CHECKPOINT_FILE)["vectors"], good)
    monkeypatch.undo()
    assert np.array_equal(task.finish().vectors, good.numpy())


def test_a_first_step_that_diverges_has_nothing_to_keep(tiny, space, tmp_path, monkeypatch):
    original = gradients.packed_states
    monkeypatch.setattr(gradients, "packed_states", lambda *a: original(*a) * math.nan)
    with pytest.raises(ModelError, match="Step 1 diverged"):
        next(run(tiny, space, tmp_path / "run").steps())


def test_a_gradient_out_of_all_proportion_stops_the_run(tiny, space, tmp_path, monkeypatch):
    config = recipe("paper", steps=12, batch=6, lr=0.01, validate_every=0)
    task = run(tiny, space, tmp_path / "run", config, held_out=None)
    steps = task.steps()
    for _ in range(6):
        next(steps)
    norm = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a: norm(*a) * 1e6)
    assert list(steps) == [] and task.done == 6 and "Step 7 diverged" in task.diverged
    resumed = run(tiny, space, tmp_path / "run", config, held_out=None)
    assert resumed._norms == [step.gradient_norm for step in resumed.curve] and resumed.done == 6


def test_a_run_that_goes_on_starts_from_the_states_it_began_with(tiny, space, tmp_path, monkeypatch):
    task = run(tiny, space, tmp_path / "run")
    next(task.steps())
    resumed = run(tiny, space, tmp_path / "run")

    def never(*_):
        raise AssertionError("the states are kept")

    monkeypatch.setattr(Optimisation, "_fill", lambda self, q, *_: never() if q is self._train else None)
    resumed._held_out = None
    next(resumed.steps())
    assert torch.equal(resumed._train.start, task._train.start)


def test_reading_a_curve_stops_at_the_first_broken_line(tmp_path):
    good = Step(1, 1.0, 1.0, 1.0, 0.0, 1.0, 0.1)
    line = json.dumps(vars(good))
    (tmp_path / STEPS_FILE).write_text(f"{line}\n{line[:-9]}\n{line}\n")
    assert read_curve(tmp_path) == [good]
    assert read_curve(tmp_path / "nowhere") == []
