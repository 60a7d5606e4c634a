"""What programs can send that no page would: over real HTTP, on the tiny model, each refused in words."""

import json
import logging
import math
import re
from dataclasses import replace

import httpx
import pytest
from serving import call, served_here, tiny_service

from dro import memory
from explorer.limits import CLASSROOM, OWN, PUBLIC, accounts, chosen
from explorer.tabs.explore import _told

LONG = "word " * 1500
RUN = "dro-short-1"
SESSIONS = 100
"""That gradio remembers at most; once there are so many, a call more costs none."""


@pytest.fixture(scope="module")
def service(tiny_folder, anchors, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny_service(tiny_folder, anchors, replace(OWN, sessions=SESSIONS))


@pytest.fixture(scope="module")
def address(service):
    with served_here(service) as url:
        yield url


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=180) as made:
        yield made


def start(**settings):
    return ["start", "", "quick", settings, ""]


CALLS = {
    "no query": ("locate", ["", ["none"]], "The query is empty"),
    "only white space": ("locate", [" \n\t\u3000", ["none"]], "The query is empty"),
    "a number as query": ("locate", [7, ["none"]], "text, not int"),
    "a list as query": ("locate", [["a"], ["none"]], "text, not list"),
    "nothing as query": ("locate", [None, ["none"]], "text, not NoneType"),
    "100,000 characters": ("locate", ["a" * 100_000, ["none"]], "100,000 characters"),
    "too many tokens": ("locate", [LONG, ["none"]], "tokens"),
    "no prompts": ("locate", ["q", "none"], "No prompt is chosen"),
    "a thousand prompts": ("locate", ["q", ["none"] * 1000], "too many"),
    "prompts that are none": ("locate", ["q", [7, None]], "There is no prompt"),
    "an object as prompt": ("locate", ["q", [{"a": "b"}]], "There is no prompt"),
    "a path as prompt": ("locate", ["q", ["/etc/passwd"]], "There is no prompt"),
    "a path upwards": ("locate", ["q", ["../../runs/dro-short-1"]], "There is no prompt"),
    "an empty prompt of one's own": ("locate", ["q", ["text:  "]], "empty"),
    "a prompt of 100,000 characters": ("locate", ["q", ["text:" + "a" * 100_000]], "There is no prompt"),
    "a prompt of a template that has none": ("locate", ["q", ["template+nobody"]], "knows no prompt"),
    "one input too few": ("locate", ["q"], "takes more inputs"),
    "no inputs": ("answer", [], "takes more inputs"),
    "negative length": ("answer", ["q", "none", -4, None], "max_tokens is -4"),
    "no length": ("answer", ["q", "none", 0, None], "max_tokens is 0"),
    "half a token": ("answer", ["q", "none", 1.5, None], "max_tokens is '1.5'"),
    "a word as length": ("answer", ["q", "none", "many", None], "max_tokens is 'many'"),
    "a truth as length": ("answer", ["q", "none", True, None], "max_tokens is 'True'"),
    "a negative seed": ("answer", ["q", "none", 4, -1], "seed is -1"),
    "a seed beyond all numbers": ("answer", ["q", "none", 4, 1e300], "seed is 1e+300"),
    "a list as prompt of an answer": ("answer", ["q", ["none"], 4, None], "There is no prompt"),
    "an unknown action": ("optimise", ["delete", RUN, "quick", {}, ""], "There is no action 'delete'"),
    "an object as action": ("optimise", [{}, RUN, "quick", {}, ""], "There is no action"),
    "another's run": ("optimise", ["follow", "dro-own-99", "quick", {}, ""], "There is no run 'dro-own-99'"),
    "a path as run": ("optimise", ["stop", "../../../etc", "quick", {}, ""], "There is no run"),
    "a list as run": ("optimise", ["stop", ["x"], "quick", {}, ""], "There is no run"),
    "an unknown preset": ("optimise", ["start", "", "enormous", {}, ""], "There is no preset 'enormous'"),
    "a list as preset": ("optimise", ["start", "", ["quick"], {}, ""], "There is no preset"),
    "settings that are none": ("optimise", ["start", "", "quick", [1, 2], ""], "settings are no object"),
    "an unknown setting": ("optimise", start(owner="me"), "There is no setting 'owner'"),
    "a setting that is a parameter": ("optimise", start(recipe="best"), "There is no setting 'recipe'"),
    "negative steps": ("optimise", start(steps=-5), "steps"),
    "a million steps": ("optimise", start(steps=1_000_000), "steps"),
    "steps beyond the page": ("optimise", start(steps=50_000), "The page takes up to 1000"),
    "half a step": ("optimise", start(steps=1.5), "steps"),
    "a batch of one": ("optimise", start(batch=1), "batch"),
    "a rate that is no number": ("optimise", start(lr="fast"), "lr"),
    "a negative rate": ("optimise", start(lr=-1), "lr"),
    "the test set to train on": ("optimise", start(queries="test"), "cannot train on 'test'"),
    "a path to train on": ("optimise", start(queries="../x"), "cannot train on"),
    "a path to start from": ("optimise", start(init="/etc/passwd"), "There is no prompt"),
    "nothing to start from": ("optimise", start(init="none"), "no tokens to train"),
    "an unknown target": ("optimise", start(target="comply"), "target"),
}  # fmt: skip
RAW = {
    "infinity as weight": ("optimise", b'{"data": ["start", "", "quick", {"lr": Infinity}, ""]}'),
    "NaN as rate": ("optimise", b'{"data": ["start", "", "quick", {"lr": NaN}, ""]}'),
    "no json": ("locate", b"\xff\xfe"),
    "a lone surrogate": ("locate", b'{"data": ["\\ud800", ["none"]]}'),
    "json deeper than any stack": ("locate", b'{"data": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}"),
    "an endpoint that is none": ("destroy", b'{"data": []}'),
    "two megabytes": ("locate", b'{"data": ["' + b"a" * 2_000_000 + b'", ["none"]]}'),
}  # fmt: skip


def message(told):
    kind, content = told
    assert kind == "error", told
    return content if isinstance(content, str) else str(content["error"])


@pytest.mark.parametrize("name", CALLS)
def test_a_call_past_the_page_is_refused_by_name(client, name):
    endpoint, sent, part = CALLS[name]
    found = message(call(client, endpoint, sent))
    assert part in found and "Traceback" not in found and len(found) < 600


@pytest.mark.parametrize("name", RAW)
def test_what_is_hardly_a_call_is_refused_too(client, name):
    endpoint, body = RAW[name]
    found = message(call(client, endpoint, None, body))
    assert "Traceback" not in found and "/gradio" not in found


def test_a_thousand_calls_leave_nothing_behind(client, service):
    def refused(times):
        for _ in range(times):
            client.post("/gradio_api/call/locate", json={"data": ["", ["none"]]})

    refused(SESSIONS + 50)
    before = memory.resident()
    refused(500)
    assert memory.resident() - before < 50_000_000
    assert call(client, "locate", ["How do I fold a map?", ["none"]])[0] == "complete"


def test_there_are_forty_of_them_and_they_cost_no_memory(client, service, capfd, caplog):
    assert len(CALLS) >= 40

    def all_of_them():
        for endpoint, sent, _ in CALLS.values():
            call(client, endpoint, sent)
        for endpoint, body in RAW.values():
            call(client, endpoint, None, body)

    all_of_them()
    capfd.readouterr()
    before = memory.resident()
    for _ in range(3):
        all_of_them()
    assert memory.resident() - before < 50_000_000
    assert service.run_names() == [], "nothing was begun"
    said = capfd.readouterr()
    assert "Traceback" not in said.err + said.out and LONG[:40] not in said.err + said.out + caplog.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 421), ({"host": "127.0.0.1.evil.example"}, 421), ({"host": ""}, 421),
     ({"host": "user@evil.example:80"}, 421), ({"origin": "http://evil.example"}, 403),
     ({"origin": "null"}, 403), ({"origin": "file://"}, 403), ({"origin": "http://127.0.0.1:1"}, 403)],
)  # fmt: skip
def test_other_names_and_other_sites_are_turned_away(client, headers, status):
    for path, method in (("/", "GET"), ("/config", "GET"), ("/gradio_api/call/locate", "POST")):
        answer = client.request(method, path, headers=headers, json={"data": ["q", ["none"]]})
        assert answer.status_code == status and set(answer.json()) == {"detail"}
    assert client.get("/", headers={"origin": str(client.base_url).rstrip("/")}).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=/etc/passwd", "/gradio_api/file=../../../etc/passwd", "/file=/etc/passwd",
     "/gradio_api/file=%2Fetc%2Fpasswd", "/static/..%2f..%2f..%2fetc/passwd", "/assets/../../etc/passwd",
     "/gradio_api/file=http://127.0.0.1:22/", "/gradio_api/file=file:///etc/passwd", "/monitoring/summary"],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(client, path):
    answer = client.get(path)
    assert answer.status_code in (400, 403, 404) and "root:" not in answer.text


def test_a_forged_upload_opens_no_file(client):
    forged = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}, "orig_name": "x.csv"}
    config = client.get("/config").json()
    price = next(d for d in config["dependencies"] if len(d["inputs"]) == 4 and not d["queue"])
    sent = {"data": [["none"], [], forged, 5], "fn_index": price["id"], "session_hash": "s"}
    answer = client.post("/gradio_api/run/predict", json=sent)
    assert "root:" not in answer.text and "passwd" not in json.dumps(answer.json().get("data", ""))


def test_an_upload_that_is_too_large_is_refused_at_the_door(client):
    answer = client.post("/gradio_api/upload", content=b"x" * 22_000_000)
    assert answer.status_code == 413 and "too large" in answer.json()["detail"]


@pytest.mark.parametrize(
    "sent",
    [None, 7, "x", [], {}, {"customdata": 7}, {"customdata": ["q", "s"]}, {"customdata": [["q"], "s", "p"]},
     {"customdata": [None] * 3}, {"customdata": {"0": "q"}}, {"points": [{"customdata": ["a", "b", "c"]}]}],
)  # fmt: skip
def test_forged_events_of_the_plot_say_nothing(sent):
    assert "Click a point" in _told(sent)


def test_markup_in_an_event_of_the_plot_is_text():
    found = _told({"customdata": ["<img src=x onerror=alert(1)>", "<b>s</b>", "&lt;i&gt;p"]})
    assert re.findall(r"<(\w+)", found) == ["p", "br", "small"]
    assert len(_told({"customdata": ["a" * 10_000_000, "", "p"]})) < 20_000


def test_a_classroom_is_narrower_and_runs_belong_to_somebody(tiny_folder, anchors):
    service = tiny_service(tiny_folder, anchors, CLASSROOM)
    with served_here(service) as url, httpx.Client(base_url=url, timeout=60) as client:
        for preset, settings, part in (
            ("best", {}, "costs too much here"), ("paper", {}, "costs too much here"),
            ("quick", {"steps": 100}, "up to 60"), ("quick", {"batch": 64}, "up to 32"),
        ):  # fmt: skip
            assert part in message(call(client, "optimise", ["start", "", preset, settings, ""]))
        begun = call(client, "optimise", start(steps=50, batch=4))[1][0]
        assert begun["key"]
        for key in ("", "x", begun["key"][:-1], None, ["x"]):
            told = message(call(client, "optimise", ["stop", begun["run"], "quick", {}, key]))
            assert "begun by somebody else" in told
        assert not service.run(begun["run"]).stop.is_set()
        kind, record = call(client, "optimise", ["stop", begun["run"], "quick", {}, begun["key"]])
        assert kind == "complete" and "key" not in record[0]
        with pytest.raises(Exception, match="cannot load models"):
            service.load("some/model", "fp32")
        with pytest.raises(Exception, match="cannot fit"):
            service.fit()
        assert len(call(client, "answer", ["q", "none", 500, None])[1][0]["answer"]) <= 64 * 4


def test_a_public_page_loads_only_what_is_listed(raised):
    listed = chosen(False, True, {"DRO_MODELS": "qwen2.5-coder-0.5b, org/small"})
    listed.check_model("org/small")
    for name in ("org/other", "/etc", "../models", "", "org/small/../x"):
        assert "not on this server's list" in raised(lambda name=name: listed.check_model(name), Exception)
    none = chosen(False, True, {})
    assert not none.loading and none.name == "public" and none.owned
    assert PUBLIC.most_queries <= CLASSROOM.most_queries < chosen(False, False, {}).most_queries


def test_names_and_passwords_come_from_the_environment_alone(tiny_folder, anchors, raised):
    assert accounts({}) is None
    assert accounts({"DRO_AUTH": "ann:a:b,bob:c"}) == [("ann", "a:b"), ("bob", "c")]
    told = raised(lambda: accounts({"DRO_AUTH": "ann:secret,bob"}), Exception)
    assert "DRO_AUTH" in told and "secret" not in told
    service = tiny_service(tiny_folder, anchors)
    with served_here(service, accounts=[("ann", "word")]) as url, httpx.Client(base_url=url) as client:
        assert client.get("/config").status_code == 401
        assert client.post("/gradio_api/call/locate", json={"data": ["q", ["none"]]}).status_code == 401
        assert client.post("/login", data={"username": "ann", "password": "no"}).status_code == 400
        assert client.post("/login", data={"username": "ann", "password": "word"}).status_code == 200
        assert client.get("/config").status_code == 200


def test_no_secret_and_no_place_of_files_is_told(service, client, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    from dro.errors import DroError
    from dro.sources import cache_folder

    def fail(*_):
        raise DroError(f"hf_verysecret cannot open {cache_folder()}/models/x.", "Try again.")

    monkeypatch.setattr(service, "locate", fail)
    found = message(call(client, "locate", ["q", ["none"]]))
    assert "verysecret" not in found and str(cache_folder()) not in found and "the store" in found


def test_what_was_typed_is_not_logged(service, client, monkeypatch, caplog, capfd):
    def fail(query, *_):
        raise ValueError(f"cannot read {query}")

    monkeypatch.setattr(service, "locate", fail)
    with caplog.at_level(logging.DEBUG):
        assert "unexpected" in message(call(client, "locate", ["my private question", ["none"]]))
    said = caplog.text + "".join(capfd.readouterr())
    assert "ValueError" in caplog.text and "private" not in said
    monkeypatch.setenv("DRO_LOG_QUERIES", "1")
    call(client, "locate", ["my private question", ["none"]])
    assert "my private question" in caplog.text


def test_numbers_stay_numbers(client):
    found = call(client, "answer", ["q", "none", 3.0, 2])
    assert found[0] == "complete" and not math.isnan(len(found[1][0]["answer"]))
