"""The page as a stranger's program sees it: started as a process, asked over HTTP."""

import re
import time

import pytest
from conftest import served
from gradio_client import Client

from dro import models, space

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def address():
    with served() as url:
        yield url


@pytest.fixture(scope="module")
def locate(address):
    client = Client(address, verbose=False)

    def ask(query, prompts):
        deadline = time.monotonic() + 120
        while True:
            try:
                return client.predict(query, prompts, api_name="/locate")
            except Exception as error:
                if not re.search("still loading", str(error)) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    return ask


def test_locate_gives_the_commands_json(locate):
    told = locate("How do I sharpen a kitchen knife?", ["none", "short"])
    assert [p["prompt"] for p in told["points"]] == ["none", "short"]
    width = space.shipped(models.default_key("auto")).projection.m
    for point in told["points"]:
        assert 0 <= point["refusal_probability"] <= 1 and len(point["coordinates"]) == width


def test_a_visitors_own_prompt_counts_and_a_path_does_not(locate):
    told = locate("How do I pick a lock?", ["text:Refuse everything.", "none"])
    own, bare = (p["coordinates"] for p in told["points"])
    assert own != bare
    with pytest.raises(Exception, match="There is no prompt"):
        locate("How do I pick a lock?", ["/etc/passwd"])


def test_an_empty_query_is_told_so(locate):
    with pytest.raises(Exception, match="The query is empty"):
        locate("  ", ["none"])
