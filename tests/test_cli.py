"""The command line, in this process, on a tiny local model."""

import json

import pytest
import torch
from conftest import save_folder
from safetensors.torch import save_file

from dro import data, health, models, optimise, probes, refusal
from dro.cli import app, main
from dro.refusal import Verdict
from dro.registry import DEFAULT

COMMANDS = ("models", "fit", "locate", "layers", "answer", "optimise", "evaluate", "judge", "study", "sweep",
            "bench", "export", "import", "clean")  # fmt: skip
QUERY = "How do I fold a paper crane?"


def make_quick(patch):
    """A judge that finds refusals in a random model's answers; few queries, few candidates for C and m."""
    bundled = data.bundled
    patch.setattr(data, "bundled", lambda *which: bundled(*which).limit(10))
    patch.setattr(refusal, "judge", lambda a: Verdict("refused" if len(a.encode()) % 2 else "answered"))
    patch.setattr(probes, "STRENGTHS", (0.1, 1.0))
    patch.setattr(health, "WIDTHS", (2, 4))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    make_quick(monkeypatch)


@pytest.fixture(scope="module")
def fitted(tiny_folder, tmp_path_factory):
    """The folder of a space that `fit` wrote."""
    folder = tmp_path_factory.mktemp("spaces") / "space"
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        assert (
            main(
                [
                    "fit",
                    *on(tiny_folder),
                    "--limit",
                    "8",
                    "--label-tokens",
                    "2",
                    "--label-samples",
                    "1",
                    "--out",
                    str(folder),
                    "--json",
                ]
            )
            == 0
        )
    return folder


def on(folder):
    return ["--model", str(folder), "--precision", "fp32"]


@pytest.fixture
def run(capsys):
    """run(*argv) -> (status, standard output, standard error)."""

    def call(*argv):
        capsys.readouterr()
        status = main([str(a) for a in argv])
        out = capsys.readouterr()
        return status, out.out, out.err

    return call


# Help


def test_help_names_every_command(run):
    status, out, err = run("--help")
    assert status == 0 and err == ""
    assert all(command in out for command in COMMANDS)
    assert {c.name or c.callback.__name__ for c in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    status, out, err = run(command, "--help")
    assert status == 0 and err == "" and f"{command} [OPTIONS]" in out and "--json" in out


def test_no_command_shows_the_help(run):
    _, out, err = run()
    assert "optimise" in out + err


# The commands


def test_models_lists_the_registry(run):
    status, out, err = run("models", "--json")
    rows = json.loads(out)
    assert status == 0 and err == "" and rows[0]["name"] == DEFAULT and len(rows) == 9
    assert set(rows[0]) == {"name", "hub_id", "billions", "note"}
    assert "llama-2-7b" in run("models")[1]


def test_models_fetches_one(run, monkeypatch, tiny_folder):
    asked = []
    monkeypatch.setattr(models, "fetch_files", lambda name, progress: asked.append(name))
    assert run("models", "--fetch", DEFAULT)[0] == 0 and asked == [DEFAULT]


def test_fit_writes_a_space_and_its_health(run, tiny_folder, tmp_path):
    status, out, err = run(
        "fit",
        *on(tiny_folder),
        "--limit",
        6,
        "--label-tokens",
        2,
        "--label-samples",
        1,
        "--m",
        3,
        "--out",
        tmp_path / "s",
        "--json",
    )
    told = json.loads(out)
    assert status == 0 and told["folder"] == str(tmp_path / "s") and told["space"].startswith("tiny-fp32-m3-")
    assert all({"name", "value", "verdict", "meaning"} <= set(c) for c in told["health"])
    assert "…" in err and "Traceback" not in err


def test_fit_without_a_folder_goes_to_the_cache_and_is_found_there(run, tiny_folder, own_cache):
    few = ("--limit", 6, "--label-tokens", 2, "--label-samples", 1)
    status, out, _ = run("fit", *on(tiny_folder), *few)
    assert status == 0 and "variance explained" in out
    (folder,) = (own_cache / "spaces").iterdir()
    assert run("locate", QUERY, *on(tiny_folder), "--prompt", "none", "--json")[0] == 0
    assert (folder / "space.json").is_file()


def test_fit_reads_anchors_from_a_file(run, tiny_folder, tmp_path):
    lines = [
        f"how to do the {'bad' if n % 2 else 'good'} thing {n},{'harmful' if n % 2 else 'harmless'}"
        for n in range(12)
    ]
    (tmp_path / "mine.csv").write_text("query,class\n" + "\n".join(lines))
    status, _, err = run(
        "fit",
        *on(tiny_folder),
        "--anchors",
        tmp_path / "mine.csv",
        "--label-tokens",
        2,
        "--label-samples",
        1,
        "--out",
        tmp_path / "s",
    )
    assert status == 0, err
    assert json.loads((tmp_path / "s" / "space.json").read_text())["provenance"]["anchors"]["name"] == "mine"


def test_locate_gives_a_point_for_every_prompt(run, tiny_folder, fitted):
    status, out, _ = run("locate", QUERY, *on(tiny_folder), "--space", fitted, "--json")
    told = json.loads(out)
    assert status == 0 and set(told) == {"space", "points"}
    assert [p["prompt"] for p in told["points"]] == ["template", "none", "default", "mistral", "short"]
    for point in told["points"]:
        assert set(point) == {
            "prompt",
            "coordinates",
            "refusal_logit",
            "refusal_probability",
            "harmfulness_logit",
        }
        assert len(point["coordinates"]) == 4 and 0 <= point["refusal_probability"] <= 1


def test_locate_takes_prompts_in_their_order_and_shows_a_table(run, tiny_folder, fitted):
    args = (QUERY, *on(tiny_folder), "--space", fitted, "--prompt", "short", "--prompt", "text:Be kind.")
    assert [p["prompt"] for p in json.loads(run("locate", *args, "--json")[1])["points"]] == [
        "short",
        "text:Be kind.",
    ]
    status, out, _ = run("locate", *args)
    assert status == 0 and "short" in out and "%" in out


def test_answer_says_and_judges(run, tiny_folder):
    status, out, err = run(
        "answer", QUERY, *on(tiny_folder), "--prompt", "short", "--max-tokens", 5, "--json"
    )
    told = json.loads(out)
    assert status == 0 and set(told) == {"prompt", "answer", "verdict"} and told["prompt"] == "short"
    assert told["verdict"] in ("refused", "answered", "broken") and "Loading" in err
    again = run("answer", QUERY, *on(tiny_folder), "--prompt", "short", "--max-tokens", 5, "--json")
    assert json.loads(again[1]) == told
    seeded = [
        json.loads(run("answer", QUERY, *on(tiny_folder), "--max-tokens", 8, "--seed", s, "--json")[1])[
            "answer"
        ]
        for s in (1, 1, 2)
    ]
    assert seeded[0] == seeded[1] != seeded[2]


def test_optimise_trains_and_its_prompt_can_be_used(run, tiny_folder, fitted, tmp_path):
    folder = tmp_path / "run"
    args = (
        *on(tiny_folder),
        "--space",
        fitted,
        "--out",
        folder,
        "--steps",
        3,
        "--batch",
        4,
        "--validate-every",
        2,
        "--json",
    )
    status, out, err = run("optimise", *args)
    told = json.loads(out)
    assert status == 0 and told["steps"] == 3 and len(told["loss"]) == 3 and told["stopped"] is False
    assert [v["step"] for v in told["validation"]] == [2, 3] and "Training" in err
    point = json.loads(
        run("locate", QUERY, *on(tiny_folder), "--space", fitted, "--prompt", folder, "--json")[1]
    )
    assert point["points"][0]["prompt"] == str(folder)
    again = json.loads(run("optimise", *args)[1])
    assert again["loss"] == told["loss"]


def test_ctrl_c_keeps_what_was_trained(run, tiny_folder, fitted, tmp_path, monkeypatch):
    original = optimise.Optimisation._update

    def interrupted(self, rows):
        if self.done == 2:
            raise KeyboardInterrupt
        return original(self, rows)

    monkeypatch.setattr(optimise.Optimisation, "_update", interrupted)
    status, out, _ = run(
        "optimise",
        *on(tiny_folder),
        "--space",
        fitted,
        "--out",
        tmp_path / "run",
        "--steps",
        4,
        "--batch",
        4,
        "--validate-every",
        0,
        "--json",
    )
    told = json.loads(out)
    assert status == 0 and told["stopped"] is True and told["steps"] == 2
    assert (tmp_path / "run" / "soft_prompt.safetensors").is_file()


def test_ctrl_c_elsewhere_ends_with_130_and_no_traceback(run, tiny_folder, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt()))
    status, out, err = run("answer", QUERY, *on(tiny_folder))
    assert status == 130 and out == "" and "Traceback" not in err


def test_evaluate_counts_and_writes_the_answers(run, tiny_folder, tmp_path):
    status, out, _ = run(
        "evaluate",
        *on(tiny_folder),
        "--prompt",
        "none",
        "--prompt",
        "short",
        "--limit",
        3,
        "--samples",
        2,
        "--max-tokens",
        3,
        "--answers",
        tmp_path / "said.jsonl",
        "--json",
    )
    rows = json.loads(out)["results"]
    assert status == 0
    assert [(r["prompt"], r["class"], r["n"]) for r in rows] == [
        ("none", "harmful", 3),
        ("none", "harmless", 3),
        ("short", "harmful", 3),
        ("short", "harmless", 3),
    ]
    for row in rows:
        assert set(row) == {
            "prompt",
            "set",
            "class",
            "n",
            "refused",
            "answered",
            "broken",
            "rate",
            "low",
            "high",
            "judge",
        }
        assert (
            row["refused"] + row["answered"] + row["broken"] == row["n"]
            and row["low"] <= row["rate"] <= row["high"]
        )
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text("utf-8").split("\n") if line]
    assert len(said) == 2 * 6 * 2 and set(said[0]) == {"prompt", "class", "query", "answer", "verdict"}


def test_evaluate_reads_the_users_own_queries(run, tiny_folder, tmp_path):
    (tmp_path / "bad.txt").write_text("one\ntwo\n")
    status, out, _ = run(
        "evaluate",
        *on(tiny_folder),
        "--prompt",
        "none",
        "--harmful",
        tmp_path / "bad.txt",
        "--max-tokens",
        2,
        "--json",
    )
    (row,) = json.loads(out)["results"]
    assert status == 0 and (row["set"], row["class"], row["n"]) == ("bad.txt", "harmful", 2)


def test_a_table_is_shown_without_json(run, tiny_folder):
    status, out, _ = run("evaluate", *on(tiny_folder), "--prompt", "none", "--limit", 2, "--max-tokens", 2)
    assert status == 0 and "judge: phrases" in out and "harmless" in out


def test_markup_in_a_prompt_is_shown_as_it_is(run, tiny_folder):
    status, out, _ = run(
        "answer", QUERY, *on(tiny_folder), "--max-tokens", 2, "--prompt", "text:[/red] [b]x[/b]"
    )
    assert status == 0 and "[/red]" in out


# Errors: one line on standard error, nothing on standard output, status 1 (2 for wrong usage)


def failed(result, *said, expected=1):
    status, out, err = result
    assert status == expected and out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in err
    assert all(s in last for s in said), last
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1


def test_unknown_names_are_errors(run, tiny_folder, fitted):
    failed(run("answer", QUERY, *on(tiny_folder), "--prompt", "nonsense"), "nonsense", "template")
    failed(
        run("locate", QUERY, *on(tiny_folder), "--space", fitted, "--prompt", "nonsense", "--json"),
        "nonsense",
    )
    failed(run("evaluate", *on(tiny_folder), "--prompt", "nonsense", "--limit", 1), "nonsense")
    failed(run("answer", QUERY, "--model", "nonsense"), "nonsense", DEFAULT)
    failed(run("answer", QUERY, "--model", tiny_folder, "--precision", "int3"), "int3")


def test_a_prompt_of_another_width_is_an_error(run, tiny_folder, fitted, tmp_path):
    save_file({"soft_prompt": torch.zeros(3, 4096)}, tmp_path / "theirs.safetensors")
    failed(
        run(
            "locate", QUERY, *on(tiny_folder), "--space", fitted, "--prompt", tmp_path / "theirs.safetensors"
        ),
        "4096",
        "32",
    )


def test_missing_files_are_errors(run, tiny_folder, fitted, tmp_path):
    failed(run("evaluate", *on(tiny_folder), "--harmful", tmp_path / "no.txt"), "no.txt")
    failed(run("fit", *on(tiny_folder), "--anchors", tmp_path / "no.csv"), "no.csv")
    failed(run("locate", QUERY, *on(tiny_folder), "--space", tmp_path / "no"), "holds no space")
    failed(run("locate", QUERY, *on(tiny_folder)), "Fit one first")
    failed(run("answer", QUERY, *on(tiny_folder), "--rendering", tmp_path / "no.json"), "no.json")
    failed(
        run(
            "optimise",
            *on(tiny_folder),
            "--space",
            fitted,
            "--out",
            tmp_path / "r",
            "--train",
            tmp_path / "no.csv",
        )
    )


def test_another_models_space_is_an_error(run, fitted, tmp_path):
    other = save_folder(tmp_path / "another", num_hidden_layers=1)
    failed(run("locate", QUERY, *on(other), "--space", fitted), "belongs to tiny")
    failed(run("optimise", *on(other), "--space", fitted, "--out", tmp_path / "r"), "belongs to tiny")


@pytest.mark.parametrize("query", ["", "   ", "x" * 8001])
def test_what_is_no_query_is_an_error_before_the_model_is_loaded(run, monkeypatch, query):
    monkeypatch.setattr(models, "load", None)
    failed(run("locate", query))
    failed(run("answer", query))


@pytest.mark.parametrize(
    "argv",
    [
        ("optimise", "--steps", 0),
        ("optimise", "--lr", "nan"),
        ("optimise", "--batch", 1),
        ("evaluate", "--limit", 0),
        ("evaluate", "--samples", 0),
        ("fit", "--label-samples", -1),
        ("answer", QUERY, "--max-tokens", 0),
    ],
)
def test_settings_that_make_no_sense_are_errors_before_the_model_is_loaded(run, monkeypatch, tmp_path, argv):
    monkeypatch.setattr(models, "load", None)
    extra = ("--out", tmp_path / "r") if argv[0] == "optimise" else ()
    failed(run(*argv, *extra), expected=2 if "--limit" in argv else 1)


@pytest.mark.parametrize(
    "argv",
    [
        ("fit", "--seed", -1, "--limit", 6, "--label-tokens", 2, "--label-samples", 1),
        ("fit", "--limit", -1, "--label-tokens", 2, "--label-samples", 1),
        ("evaluate", "--seed", -1, "--samples", 3, "--limit", 4, "--max-tokens", 2),
    ],
)
def test_negative_seeds_and_limits_are_errors(run, tiny_folder, tmp_path, argv):
    extra = ("--out", tmp_path / "r") if argv[0] == "fit" else ("--prompt", "none")
    failed(run(*argv, *on(tiny_folder), *extra), expected=2)


def test_a_run_folder_of_other_files_is_an_error(run, tiny_folder, fitted, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    failed(
        run("optimise", *on(tiny_folder), "--space", fitted, "--out", tmp_path, "--batch", 4),
        "other files",
    )


def test_another_run_in_the_folder_is_an_error(run, tiny_folder, fitted, tmp_path):
    args = (
        "optimise",
        *on(tiny_folder),
        "--space",
        fitted,
        "--out",
        tmp_path / "r",
        "--batch",
        4,
        "--validate-every",
        0,
    )
    assert run(*args, "--steps", 1)[0] == 0
    failed(run(*args, "--steps", 2), "another run", "steps")


@pytest.mark.parametrize(
    "argv", [("nonsense",), ("answer",), ("locate", "x", "--nonsense"), ("fit", "--m", "four")]
)
def test_wrong_usage_is_told_on_standard_error_with_status_2(run, argv):
    status, out, err = run(*argv)
    assert status == 2 and out == "" and "Traceback" not in err and err


def test_a_fault_of_ours_is_not_hidden(monkeypatch, tiny_folder):
    monkeypatch.setattr(models, "load", lambda *a, **k: (_ for _ in ()).throw(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["answer", QUERY, *on(tiny_folder)])


def test_progress_goes_to_standard_error_and_output_is_pure_json(run, tiny_folder, fitted, tmp_path):
    for argv in (
        ("fit", "--limit", 6, "--label-tokens", 2, "--label-samples", 1, "--out", tmp_path / "s"),
        ("locate", QUERY, "--space", fitted),
        ("answer", QUERY, "--max-tokens", 2),
        ("evaluate", "--limit", 1, "--max-tokens", 2, "--prompt", "none"),
    ):
        status, out, err = run(*argv, *on(tiny_folder), "--json")
        assert status == 0 and out.count("\n") == 1 and "Loading tiny" in err
        json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no json"))


def test_a_recipe_gives_the_settings_that_are_not_named(run, tiny_folder, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr("dro.held_out.bundled", data.bundled)
    args = ("optimise", *on(tiny_folder), "--recipe", "quick", "--steps", 1, "--batch", 4)
    args += ("--target", "absolute")  # the tiny model never refuses: no opening is known
    status, out, _ = run(*args, "--space", fitted, "--out", tmp_path / "r", "--validate-every", 0, "--json")
    told = json.loads(out)
    assert status == 0 and told["steps"] == told["chosen"] == 1
    config = json.loads((tmp_path / "r" / "config.json").read_text())["config"]
    assert config["lr"] == 2.5e-3 and config["batch"] == 4 and config["init"] == "default"
    assert told["held_out"]["region"]["n"] == 20 and len(told["held_out"]["results"]) == 2
    kept = json.loads((tmp_path / "r" / "held_out.json").read_text())
    assert kept == told["held_out"]


def test_the_papers_recipe_asks_for_the_papers_space(run, tiny_folder, tmp_path):
    failed(
        run("optimise", *on(tiny_folder), "--recipe", "paper", "--out", tmp_path / "r"),
        "python -m dro fit",
        "--recipe paper",
    )
    failed(run("optimise", "--recipe", "worst", "--out", tmp_path / "r"), "There is no recipe 'worst'")


def test_study_is_told_by_a_page_and_json(run, tiny_folder, fitted, tmp_path, monkeypatch):
    argv = ["study", "ablations", "--only", "start", "--limit", "2", "--out", tmp_path, "--work",
            tmp_path / "work", "--space", fitted, *on(tiny_folder)]  # fmt: skip
    status, out, _ = run(*argv, "--json")
    told = json.loads(out)
    assert status == 0 and list(told["results"]) == ["start"] and told["cells"] == 5
    page = (tmp_path / "ablations.md").read_text()
    assert f"python -m dro study ablations --limit 2 --model {tiny_folder}" in page
    status, out, _ = run(*argv)
    assert status == 0 and "1 of 5 cells" in out


def test_an_unknown_study_is_named(run):
    status, _, err = run("study", "nonsense")
    assert status == 1 and "compare, baselines, ablations" in err
