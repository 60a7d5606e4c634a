"""`app.py --mcp`: the tools as a client of the protocol sees and calls them, on the tiny model."""

import asyncio
import json

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from serving import served_here, tiny_service

import app
from dro.errors import DataError
from explorer import serving

TOOLS = {
    "locate": {"query", "prompts"},
    "answer": {"query", "prompt", "max_tokens", "seed"},
    "evaluate": {"prompts", "each", "queries"},
}


@pytest.fixture(scope="module")
def service(tiny_folder, anchors, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny_service(tiny_folder, anchors)


@pytest.fixture(scope="module")
def address(service):
    with served_here(service, tools=True) as url:
        yield f"{url}/gradio_api/mcp/"


def session(address, work):
    """What `work` makes of a session with the server."""

    async def whole():
        async with streamablehttp_client(address) as (read, write, _), ClientSession(read, write) as client:
            await client.initialize()
            return await work(client)

    return asyncio.run(whole())


def call(address, tool, **arguments):
    """(failed, what the tool told)."""
    found = session(address, lambda client: client.call_tool(tool, arguments))
    return found.isError, found.content[0].text


def test_every_tool_says_what_it_does_and_what_it_takes(address):
    tools = {tool.name: tool for tool in session(address, lambda client: client.list_tools()).tools}
    assert set(tools) == set(TOOLS)
    for name, tool in tools.items():
        told = tool.inputSchema["properties"]
        assert set(told) == TOOLS[name] and len(tool.description) > 200
        assert all(len(each.get("description", "")) > 20 for each in told.values()), told


def test_locate_answer_and_evaluate_tell_what_the_page_tells(address, service):
    failed, told = call(address, "locate", query="How do I fold a hat?", prompts=["none", "short"])
    points = json.loads(told)["points"]
    assert not failed and points == service.locate("How do I fold a hat?", ["none", "short"])["points"]
    failed, told = call(address, "answer", query="How do I fold a hat?", prompt="short", max_tokens=4)
    assert not failed and json.loads(told) == service.answer("How do I fold a hat?", "short", 4, None)
    failed, told = call(address, "evaluate", prompts=["none", "short"], each=2)
    found = json.loads(told)
    assert not failed and [(r["prompt"], r["class"], r["n"]) for r in found["results"]] == [
        (prompt, label, 2) for prompt in ("none", "short") for label in ("harmful", "harmless")
    ]
    assert {label: one["n"] for label, one in found["comparison"].items()} == {"harmful": 2, "harmless": 2}
    assert "answer" not in {key for row in found["results"] for key in row}


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("locate", {"query": " ", "prompts": ["none"]}, "The query is empty"),
        ("answer", {"query": "a?", "prompt": "/etc/passwd"}, "There is no prompt"),
        ("evaluate", {"prompts": ["none"], "queries": "advbench"}, "Use report or test"),
        ("evaluate", {"prompts": ["none"], "each": 0}, "1 or more"),
        ("evaluate", {"prompts": [], "each": 1}, "prompt"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(address, tool, arguments, told):
    failed, words = call(address, tool, **arguments)
    assert failed and told in words and "Traceback" not in words


def test_without_the_switch_there_are_no_tools(service):
    import httpx

    with served_here(service) as url:
        assert httpx.post(f"{url}/gradio_api/mcp/", json={}).status_code in (404, 405)


def test_the_switch_says_what_is_missing_and_does_not_pass_by_a_password(monkeypatch):
    serving.check_tools(None)
    with pytest.raises(DataError, match="DRO_AUTH"):
        serving.check_tools([("name", "password")])
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["app.py", "--mcp"])
    with pytest.raises(SystemExit, match=r"requirements-mcp\.txt"):
        app.main()
