"""A page that is opened by a link: what is here is restored, what is not is told or passed over."""

import pytest
from serving import tiny_service

from explorer import links
from explorer.links import Link
from explorer.session import Looking, Session
from explorer.tabs import sharing

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def service(tiny_folder, anchors, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny_service(tiny_folder, anchors)


def test_a_page_says_what_it_shows_and_reads_it_again(service):
    session = Session(ticked=["short", "none"], looking=Looking((1, 0), True, (15, 0.1, 0)))
    told = sharing.state(session, "q?", "pair", "verdict", 1, "", "layers")
    assert told == Link("layers", ("short", "none"), "pair", "verdict", (1, 0), True, None, 1, "", "q?")
    assert sharing.known(service, links.read(links.write(told, True))) == told
    umap = sharing.state(session, "", "umap", "class", None, None, {"tab": 1})
    assert umap.map == (15, 0.1, 0) and umap.pair is None and (umap.tab, umap.run) == ("", "")


@pytest.mark.parametrize(
    "odd",
    [{"tab": "settings"}, {"axes": "evil"}, {"colour": EVIL}, {"pair": (0, 99)}, {"pair": (1, 1)},
     {"map": (0, 0.1, 0)}, {"map": (15, 7.0, 0)}, {"query": " "}, {"query": "\ud800"}],
)  # fmt: skip
def test_what_there_is_none_of_is_passed_over(service, odd):
    assert sharing.known(service, Link(prompts=("none",), **odd)) == Link(prompts=("none",))


def test_at_most_as_many_prompts_as_can_be_ticked_are_taken(service):
    assert len(sharing.known(service, Link(prompts=tuple(map(str, range(40))))).prompts) < 12


def test_prompts_and_runs_that_are_not_here_are_told_as_text_and_cut(service):
    link = Link(prompts=("none", "/etc/passwd", EVIL, "text:", "text:Be kind."), run="r" * 60)
    assert sharing._names(service, link) == ["none", "text:Be kind."]
    told = sharing.missing_html(service, link)
    assert "/etc/passwd" in told and "<img" not in told and "r" * 40 in told and "r" * 41 not in told
    assert "kind" not in told, "what somebody typed is not repeated"
    assert sharing.missing_html(service, Link(prompts=("none",))) == ""


def test_only_what_the_model_must_tell_waits_for_it(service, tiny_folder):
    class Loading:
        settled = False

        def prompt_names(self):
            return ["none", "short"]

        def check_prompt(self, name):
            pass

    wait = lambda link: sharing._waits(Loading(), link)  # noqa: E731
    assert wait(Link(run="dro-short-1")) and wait(Link(prompts=("none", "dro-short-1")))
    assert not wait(Link(prompts=("none", "text:Be kind."), query="q")) and not wait(Link())
    assert not sharing._waits(service, Link(run="dro-short-1")), "nothing is waited for once it is there"


def test_a_layer_opens_its_tab_and_the_tab_alone_opens_the_last():
    assert sharing._wanted(Link(layer=0)) == 0 and sharing._wanted(Link(tab="layers")) == -1
    assert not isinstance(sharing._wanted(Link(tab="explore")), int)
