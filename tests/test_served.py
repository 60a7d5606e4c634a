"""Evaluating a server of the OpenAI protocol, against a stand-in that answers with a model of ours."""

import json

import pytest
import standins
from conftest import pairs

from dro import data, refusal, served
from dro.cli import main
from dro.errors import DataError, ModelError
from dro.evaluate import collect, evaluate
from dro.generate import Decoding, answers
from dro.prompts import HUMAN, SafetyPrompt, resolve
from dro.refusal import Verdict


class Chat:
    """A server whose deployed prompt is `short`; it fails as often as `failing` says."""

    def __init__(self, model, failing=0, key=""):
        self.model, self.failing, self.key, self.bodies = model, failing, key, []

    def __call__(self, method, path, body, headers):
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return 401, {"error": "no key"}, {}
        if path == "/v1/models":
            return 200, {"data": [{"id": "mine"}]}, {}
        if self.failing:
            self.failing -= 1
            return 503, {"error": "busy"}, {"Retry-After": "0"}
        told = json.loads(body)
        if told["model"] != "mine":
            return 404, {"error": f"no model {told['model']}"}, {}
        self.bodies.append(told)
        *system, user = told["messages"]
        prompt = SafetyPrompt("x", system[0]["content"] if system else HUMAN["short"])
        said = answers(self.model, prompt, [user["content"]], Decoding(told["max_tokens"]))[0][0]
        return 200, {"choices": [{"message": {"role": "assistant", "content": f" {said}"}}]}, {}


@pytest.fixture
def odd_refusals(monkeypatch):
    monkeypatch.setattr(refusal, "judge", lambda a: Verdict("refused" if len(a.encode()) % 2 else "answered"))


def test_a_server_gives_the_same_report_as_the_model_behind_it(tiny, odd_refusals):
    queries = [pairs(6)]
    decoding = Decoding(max_tokens=6)
    here = evaluate(tiny, [resolve("short", tiny), resolve("mistral", tiny)], queries, decoding)
    with standins.listening(Chat(tiny)) as url:
        server = served.connect(f"{url}/v1/")
        there = collect(
            lambda prompt, texts, report: server.answers(prompt, texts, decoding, report),
            [served.resolve("served"), served.resolve("mistral")], queries,
        )  # fmt: skip
    assert [s.answer for s in there.said] == [s.answer for s in here.said]
    for row, ours in zip(there.rates, here.rates, strict=True):
        assert row.as_dict() == ours.as_dict() | {"prompt": row.prompt}
    assert {row.prompt for row in there.rates} == {"served", "mistral"}
    assert 0 < sum(row.refused for row in there.rates) < sum(row.n for row in there.rates)


def test_the_command_asks_a_server(tiny, odd_refusals, monkeypatch, capsys, tmp_path):
    bundled = data.bundled
    monkeypatch.setattr(data, "bundled", lambda *which: bundled(*which).limit(4))
    chat = Chat(tiny, key="secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    said = tmp_path / "said.jsonl"
    with standins.listening(chat) as url:
        argv = ["evaluate", "--backend", "openai", "--base-url", f"{url}/v1", "--max-tokens", "5"]
        assert main([*argv, "--answers", str(said), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["results"]
        assert [(r["prompt"], r["class"], r["n"]) for r in rows] == [
            ("served", "harmful", 4), ("served", "harmless", 4),
        ]  # fmt: skip
        assert len(said.read_text().splitlines()) == 8
        assert all(body["temperature"] == 0 and len(body["messages"]) == 1 for body in chat.bodies)
        monkeypatch.delenv("OPENAI_API_KEY")
        assert main(argv) == 1
        assert "OPENAI_API_KEY" in capsys.readouterr().err
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert main([*argv, "--served-model", "other"]) == 1
        assert "no model other" in capsys.readouterr().err


def test_samples_have_seeds_of_their_own(tiny):
    chat = Chat(tiny)
    with standins.listening(chat) as url:
        decoding = Decoding(3, samples=3, temperature=1.0, seed=7)
        found = served.connect(f"{url}/v1").answers(served.resolve("short"), ["a?", "b?"], decoding)
    assert [len(each) for each in found] == [3, 3]
    seeds = sorted((body["messages"][1]["content"], body["seed"]) for body in chat.bodies)
    assert seeds == [(q, 7 + i) for q in ("a?", "b?") for i in range(3)]


def test_a_busy_server_is_asked_again_and_a_dead_one_is_told(tiny, raised):
    with standins.listening(Chat(tiny, failing=3)) as url:
        server = served.Server(f"{url}/v1", "mine", at_once=1, wait=0.01)
        assert server.answers(served.resolve("served"), ["a?"], Decoding(2))[0][0] is not None
    told = raised(lambda: server.answers(served.resolve("served"), ["a?"]), ModelError)
    assert "gives no answer" in told
    with standins.listening(Chat(tiny, failing=9)) as url:
        server = served.Server(f"{url}/v1", "mine", at_once=1, wait=0.01)
        assert "503" in raised(lambda: server.answers(served.resolve("served"), ["a?"]), ModelError)


@pytest.mark.parametrize("content", [b"<html>", {"choices": []}, {"choices": [{}]}, [], "x", b"\xff"])
def test_what_is_no_chat_completion_is_told(content, raised):
    with standins.listening(lambda *_: (200, content, {})) as url:
        server = served.Server(f"{url}/v1", "m", wait=0.01)
        assert url in raised(lambda: server.answers(served.resolve("served"), ["a?"]), ModelError)


def test_only_what_a_server_can_be_sent_is_a_prompt(tmp_path, raised):
    assert served.resolve("served").text is None and served.resolve("text: Be kind.").text == "Be kind."
    for name in ("none", "template", "template+short", str(tmp_path), "text:", ""):
        assert "served" in raised(lambda name=name: served.resolve(name), DataError)


def test_wrong_usage_is_told(capsys, raised):
    for argv in (
        ["--backend", "openai"],
        ["--base-url", "http://127.0.0.1:1/v1"],
        ["--backend", "else", "--base-url", "http://127.0.0.1:1/v1"],
        ["--backend", "openai", "--base-url", "file:///etc/passwd"],
    ):
        assert main(["evaluate", *argv]) == 1
        assert "--base-url" in capsys.readouterr().err
    with standins.listening(lambda *_: (200, {"data": [{"id": "a"}, {"id": "b"}]}, {})) as url:
        assert "a, b" in raised(lambda: served.connect(f"{url}/v1"), DataError)
