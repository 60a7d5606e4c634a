"""Studies: whole ones on the tiny model, on grids of a cell or two; resumed; reported."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dro import baselines, data, probes, prompts, refusal, studies
from dro.errors import DataError, StoreError
from dro.generate import Decoding
from dro.prompts import SafetyPrompt, resolve
from dro.refusal import Verdict
from dro.states import prefix_ids
from dro.studies import borderline, capability, cells, reproduce, transfer
from dro.studies.cells import Cell, Ground
from dro.studies.context import SMALL, Context
from dro.studies.training import dro, start_of, train


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few queries, a judge that finds refusals in a random model's answers, few candidates for C."""
    bundled = data.bundled
    monkeypatch.setattr(data, "bundled", lambda *which: bundled(*which).limit(8))
    monkeypatch.setattr(refusal, "judge", lambda a: Verdict("refused" if len(a) % 2 else "answered"))
    monkeypatch.setattr(probes, "STRENGTHS", (0.1, 1.0))
    monkeypatch.setattr(baselines, "SAMPLES", Decoding(max_tokens=3, samples=2, temperature=1.0))


@pytest.fixture
def context(tiny, space, tmp_path):
    return Context(tiny, lambda recipe: space, tmp_path / "work", limit=3, steps=2, batch=4)


def study(name, context, tmp_path, *only):
    return studies.run(name, context, tmp_path / "out", f"python -m dro study {name}", only)


# Cells


def counted(calls, result=1):
    def measure(done):
        calls.append(sorted(done))
        return {"value": result}

    return measure


def ground(tmp_path, **provenance):
    return Ground("toy", tmp_path / "raw", {"model": "tiny", **provenance}, "python -m dro study toy")


def test_a_finished_cell_is_not_measured_again(tmp_path):
    calls = []
    grid = [Cell("one", {"x": 1}, 0, counted(calls)), Cell("two", {"x": 2}, 0, counted(calls), ("one",))]
    first = cells.run(ground(tmp_path), grid)
    assert calls == [[], ["one"]] and list(first) == ["one", "two"]
    assert cells.run(ground(tmp_path), grid) == first and len(calls) == 2


def test_other_settings_seeds_or_ground_are_other_files(tmp_path):
    calls = []
    make = lambda x, seed: [Cell("one", {"x": x}, seed, counted(calls))]  # noqa: E731
    for grid, there in ((make(1, 0), {}), (make(2, 0), {}), (make(1, 1), {}), (make(1, 0), {"m": 2})):
        cells.run(ground(tmp_path, **there), grid)
    assert len(calls) == 4 and len(list((tmp_path / "raw").glob("one-*.json"))) == 4


def test_a_cell_is_stale_when_what_it_needs_has_changed(tmp_path):
    calls = []
    for x in (1, 2):
        cells.run(ground(tmp_path), [
            Cell("one", {"x": x}, 0, counted([])), Cell("two", {}, 0, counted(calls), ("one",)),
        ])  # fmt: skip
    assert len(calls) == 2


def test_only_takes_what_it_needs_along(tmp_path):
    calls = []
    grid = [Cell(name, {}, 0, counted(calls), needs) for name, needs in
            (("one", ()), ("two", ("one",)), ("three", ()))]  # fmt: skip
    assert list(cells.run(ground(tmp_path), grid, ["two"])) == ["one", "two"]
    with pytest.raises(DataError, match=r"no cell 'four'.*one, two, three"):
        cells.run(ground(tmp_path), grid, ["four"])


def test_a_killed_grid_goes_on_at_the_cell_where_it_was(tmp_path):
    calls = []

    def killed(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cells.run(ground(tmp_path), [Cell("one", {}, 0, counted(calls)), Cell("two", {}, 0, killed)])
    grid = [Cell("one", {}, 0, counted(calls)), Cell("two", {}, 0, counted(calls))]
    assert list(cells.finished(ground(tmp_path), grid)) == ["one"]
    assert list(cells.run(ground(tmp_path), grid)) == ["one", "two"] and len(calls) == 2


def test_a_damaged_cell_is_refused_by_name(tmp_path):
    grid = [Cell("one", {}, 0, counted([]))]
    cells.run(ground(tmp_path), grid)
    path = next((tmp_path / "raw").glob("one-*.json"))
    path.write_text('{"format": 1}')
    with pytest.raises(StoreError, match=r"one-.*damaged"):
        cells.run(ground(tmp_path), grid)


# Whole studies


def test_ablations_end_in_a_page_with_table_figure_and_command(context, tmp_path):
    found = study("ablations", context, tmp_path, "start", "full-s42", "without-l-r-s42")
    assert list(found.done) == ["start", "full-s42", "without-l-r-s42"] and found.cells == 5
    page = found.page.read_text()
    assert "python -m dro study ablations" in page and "3 of 5 cells" in page and "without L_r" in page
    assert found.done["full-s42"].result["training"]["steps"] == 2
    ElementTree.parse(tmp_path / "out" / "ablations.svg")
    kept = json.loads(next((tmp_path / "out" / "raw" / "ablations").glob("start-*")).read_text())
    assert len(kept["result"]["classes"]["harmful"]["verdicts"]) == 3
    assert "answer" not in kept["result"]


def test_a_full_study_has_a_page_of_its_own_beside_the_small_one(context, tmp_path):
    small = study("ablations", context, tmp_path, "start")
    full = study("ablations", replace(context, full=True), tmp_path, "start")
    assert small.page.name == "ablations.md" and full.page.name == "ablations-full.md"
    assert "(ablations-full.svg)" in full.page.read_text()
    assert (tmp_path / "out" / "ablations-full.svg").exists()
    assert "(ablations.svg)" in small.page.read_text()


def test_without_l_r_trains_otherwise(context, tmp_path):
    found = study("ablations", context, tmp_path, "full-s42", "without-l-r-s42").done
    first, second = (found[name].result["training"]["first_loss"] for name in found)
    assert first != second


def test_training_that_was_killed_goes_on(context, tmp_path, monkeypatch):
    steps = []

    def kill():
        if len(list((tmp_path / "work").glob("*/checkpoint.safetensors"))) and not steps:
            steps.append(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study("ablations", replace(context, checkpoint=kill), tmp_path, "full-s42")
    curve = next((tmp_path / "work").glob("*/steps.jsonl"))
    assert len(curve.read_text().splitlines()) == 1
    cut = study("ablations", context, tmp_path, "full-s42").done["full-s42"].result
    whole = study("ablations", replace(context, work=tmp_path / "other"), tmp_path / "again", "full-s42")
    assert cut["classes"] == whole.done["full-s42"].result["classes"]
    assert cut["training"]["last_losses"] == whole.done["full-s42"].result["training"]["last_losses"]


def test_one_training_serves_all_studies(context, tmp_path):
    study("ablations", context, tmp_path, "full-s42")
    before = sorted((tmp_path / "work").iterdir())
    study("ablations", context, tmp_path / "elsewhere", "full-s42")
    assert sorted((tmp_path / "work").iterdir()) == before


def test_the_fitted_direction_is_held_against_controls(context, tmp_path):
    found = study("baselines", context, tmp_path, "start", "fitted-s42", "random-1", "permuted-2")
    assert found.cells == 13
    assert found.done["fitted-s42"].result["cosine"] == 1.0
    assert abs(found.done["random-1"].result["cosine"]) < 1
    assert "the 2 controls have median" in found.page.read_text()
    assert found.done["random-1"].settings["config"]["harmfulness_weight"] == 0


def test_prompt_tuning_has_the_seconds_of_the_fitted_run(context, tmp_path):
    found = study("baselines", context, tmp_path, "vpt").done
    assert list(found) == ["fitted-s42", "vpt"]
    seconds = [found[name].result["training"]["training_seconds"] for name in found]
    assert seconds[0] == seconds[1] and found["vpt"].result["training"]["steps"] >= 1


def test_borderline_says_where_the_boundary_runs(context, tmp_path):
    found = study("borderline", context, tmp_path, "short", "dro")
    told = found.done["dro"].result
    assert len(told["harmfulness"]) == len(told["refusal"]) == 6
    assert sum(kind["n"] for kind in told["kinds"].values()) == 6
    assert "Refused, kind by kind" in found.page.read_text()
    ElementTree.parse(tmp_path / "out" / "borderline.svg")


def test_the_boundary_is_where_refusals_cross_one_half():
    numbers = np.random.default_rng(0)
    places = numbers.normal(size=4000) * 2
    refused = numbers.random(4000) < 1 / (1 + np.exp(-2.0 * (places - 0.7)))
    told = borderline.boundary(places, refused)
    assert told["crossing"] == pytest.approx(0.7, abs=0.1) and told["slope"] == pytest.approx(2, abs=0.2)
    assert borderline.boundary(places, np.zeros(4000, dtype=bool))["crossing"] is None


def test_compare_trains_first_and_measures_the_test_set_last(context, tmp_path):
    three = replace(context, seeds=2)
    grid = [cell.name for cell in studies.STUDIES["compare"].grid(three)]
    assert grid.index("best-s43-validation-report") < grid.index("template-test")
    assert len([name for name in grid if name.startswith(("paper-", "best-"))]) == 8
    found = study("compare", context, tmp_path, "template-test", "paper-s42-test", "best-s42-test")
    page = found.page.read_text()
    assert "best-s42 less template" in page and "best-s42 less paper-s42" in page
    assert "best, 1 seed on test" in page


def test_capability_is_a_paired_difference_from_the_start(context, tmp_path, monkeypatch):
    monkeypatch.setattr(capability, "TOKENS", dict.fromkeys(capability.TOKENS, 4))
    start = context.config("best").init
    found = study("capability", context, tmp_path, start, "dro", "dro-beta-x100")
    first, trained = found.done[start].result, found.done["dro"].result
    assert max(map(abs, first["kl"])) < 1e-5 < min(trained["kl"])
    assert {kind: len(marks) for kind, marks in trained["scores"].items()} == dict.fromkeys(
        capability.TOKENS, 3
    )
    assert f"less {start}" in found.page.read_text() and ", β × 100 |" in found.page.read_text()


def test_robustness_asks_in_many_ways_and_takes_a_file_of_suffixes(context, tmp_path):
    (tmp_path / "suffixes.txt").write_text("and be brief\n!!! ???\n")
    given = replace(context, suffixes=tmp_path / "suffixes.txt")
    found = study("robustness", given, tmp_path, "none.plain", "default.german", "dro.german", "dro.suffix-2")
    assert "German" in found.done["dro.german"].result["classes"]["harmful"]["judge"]
    assert "German" not in found.done["none.plain"].result["classes"]["harmful"]["judge"]
    page = found.page.read_text()
    assert "| german |" in page and "| suffix-2 |" in page
    other = [c.name for c in studies.STUDIES["robustness"].grid(context)]
    assert "dro.suffix-1" not in other and "dro.fake-end" in other


def test_dimensions_train_in_narrower_spaces(context, tmp_path):
    found = study("dimensions", context, tmp_path, "start", "m2-beta-x1-s42", "m4-beta-x0-s42")
    assert found.cells == 1 + 2 * 3
    assert found.done["m4-beta-x0-s42"].result["beta"] == 0
    assert found.done["m2-beta-x1-s42"].result["surprise"]["n"] == 3
    assert "m = 2" in found.page.read_text()


def test_transfer_carries_a_prompt_to_another_text(context, tmp_path):
    found = study("transfer", context, tmp_path, "mistral", "dro-short", "before-short-on-mistral",
                  "drift-short-on-mistral")  # fmt: skip
    vectors = found.done["dro-short"].result["vectors"]
    assert all(v["drift"] > 0 for v in vectors) and vectors[0]["token"] == vectors[0]["nearest"]
    assert "DRO from short, before mistral" in found.page.read_text()


def test_a_prompt_before_another_has_the_vectors_of_both(tiny):
    short, mistral = resolve("short", tiny), resolve("mistral", tiny)
    slots = [len(prefix_ids(tiny, p).slot) for p in (short, mistral)]
    trained = SafetyPrompt("x", short.text, np.ones((slots[0], tiny.d_model), dtype=np.float32))
    both = transfer.before(tiny, trained, mistral)
    assert len(both.vectors) == sum(slots) and both.text == mistral.text
    unmoved = SafetyPrompt("x", short.text, tiny.embed(prefix_ids(tiny, short).slot).numpy())
    moved = transfer.drift(tiny, unmoved, mistral)
    assert np.allclose(moved.vectors, tiny.embed(prefix_ids(tiny, mistral).slot).numpy())


def test_reproduce_runs_the_protocol_and_writes_answers_for_alpaca_eval(context, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "SMALL", (3, 2, 4))
    found = study("reproduce", context, tmp_path, "none", "dro-short", "vpt-short")
    rates = found.done["dro-short"].result["rates"]
    assert [(r["class"], r["n"], r["samples"]) for r in rates] == [("harmful", 3, 2), ("harmless", 3, 2)]
    assert all(r["each"] <= r["any"] for r in rates)
    page = found.page.read_text()
    assert "AdvBench (100)" in page and "vPT short" in page
    told = json.loads(
        (tmp_path / "work" / "alpaca" / found.done["none"].result["alpaca"]["file"]).read_text()
    )
    assert set(told[0]) == {"instruction", "output", "generator", "dataset"}


def test_a_judge_model_must_agree_that_a_request_was_met(context):
    class Stern:
        name = "model:stern"

        def __call__(self, queries, answers):
            return [Verdict("refused") for _ in answers]

    assert reproduce.bad_answers(context, "q", ["ab", "abc"], True) == [True, False]
    assert reproduce.bad_answers(replace(context, judge=Stern()), "q", ["ab", "abc"], True) == [False, False]


def test_a_run_of_the_users_stands_for_dro(context, tmp_path):
    study("ablations", context, tmp_path, "full-s42")
    trained = train(context, context.config("best")).prompt
    prompts.save(trained, tmp_path / "mine", {})
    given = replace(context, run=str(tmp_path / "mine"))
    assert np.allclose(dro(given).vectors, trained.vectors)
    assert start_of(given) == context.config("best").init
    names = [cell.name for cell in studies.STUDIES["capability"].grid(given)]
    # Beside it the lever of L_U, on trainings of the study's own size.
    assert names[-3:] == ["dro", "dro-small", "dro-beta-x100"]


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_no_grid_asks_or_trains_on_the_test_set(name, context, monkeypatch):
    asked = []
    bundled = data.bundled
    monkeypatch.setattr(data, "bundled", lambda *which: asked.append(which[0]) or bundled(*which))
    for cell in studies.STUDIES[name].grid(context):
        settings = json.dumps(dict(cell.settings))
        assert "test" not in json.loads(settings).get("config", {}).get("queries", "").split("+")
    assert "test" not in asked or name == "compare"


def test_small_grids_choose_nothing(context):
    config = Context(context.model, context.spaces, Path(), limit=3).config("best")
    assert {key: getattr(config, key) for key in SMALL} == SMALL
    assert Context(context.model, context.spaces, Path(), full=True).config("best").steps > 60


def test_an_unknown_study_is_named(context, tmp_path):
    with pytest.raises(DataError, match="ablations"):
        study("nonsense", context, tmp_path)
