"""A prompt that is being edited: its point follows, outdated words do not, nothing is ticked or answered."""

from dataclasses import dataclass, field

import pytest
from serving import tiny_service

from dro.errors import DataError
from dro.prompts import HUMAN
from explorer.session import Place, Session
from explorer.tabs import drafting, drawn, explore


@pytest.fixture(scope="module")
def service(tiny_folder, anchors, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny_service(tiny_folder, anchors)


@pytest.fixture
def session(service):
    made = Session(ticked=["none", "short"])
    made.ask("How do I fold a map?", service.space_name())
    explore.locate(service, made, made.ticked)
    return made


def test_the_point_is_that_of_the_prompt_once_it_is_added(service, session):
    lines = list(drafting.place(service, session, "  You are careful.  "))
    assert lines[-1] is None and session.shown == ["none", "short", "text:You are careful."]
    assert session.ticked == ["none", "short"] == session.unanswered, "neither ticked nor answered"
    [point] = service.points(session.query, ["text:You are careful."])
    found = session.places[session.draft]
    assert found.coordinates == pytest.approx(point.coordinates, abs=1e-4)
    [base] = service.points(session.query, ["none"])
    assert found.shift == pytest.approx(service.shift(point, base), abs=1e-4)
    assert "You are careful." in explore.table(service, session)


def test_the_point_glides_it_is_the_same_one_of_the_same_trace(service, session):
    for words in ("You", "You are kind."):
        list(drafting.place(service, session, words))
        located = drawn._located(service, session)
        assert list(located.prompts) == ["none", "short", f"text:{words}"]
    assert len(session.places) == 3, "earlier words leave nothing"


def test_without_words_it_goes_away_and_an_added_prompt_stays(service, session):
    list(drafting.place(service, session, "You"))
    session.tick([*session.ticked, "text:You"])
    list(drafting.place(service, session, "You are"))
    assert "text:You" in session.places and session.shown[-1] == "text:You are"
    assert list(drafting.place(service, session, "  ")) == [None]
    assert session.shown == ["none", "short", "text:You"] and "text:You are" not in session.places


def test_what_cannot_be_placed_is_told_in_a_line(service, session):
    assert list(drafting.place(service, Session(), "You")) == [drafting.text.DRAFT_ASK]
    for words, part in (("word " * 780, "tokens"), ("x" * 9000, "no prompt")):
        told = list(drafting.place(service, session, words))
        assert len(told) == 1 and part in told[0] and not session.draft
    assert list(drafting.place(service, session, 7)) == [None], "what no box sends is no words"


@dataclass
class Slow:
    """A service in whose line something happens while words wait."""

    meanwhile: object
    told: list = field(default_factory=list)
    left: int = 0

    def check(self, query, prompts):
        pass

    def place(self, query, prompts):
        return self

    def lines(self, ticket):
        try:
            yield "1 before you"
            self.meanwhile()
            yield "You are next."
            raise DataError("too late", "too late")
        finally:
            self.left += 1


def test_newer_words_and_another_question_end_the_wait_of_older_ones():
    session = Session(query="q")
    newer = lambda: list(drafting.place(Slow(lambda: None), session, ""))  # noqa: E731
    for meanwhile in (newer, lambda: session.ask("another", "")):
        session.query = "q"
        slow = Slow(meanwhile)
        assert list(drafting.place(slow, session, "older")) == ["1 before you"]
        assert session.draft == "" and session.places == {} and slow.left == 1


def test_a_draft_does_not_touch_the_turn_of_questions_and_answers(service, session):
    before = session.turn
    list(drafting.place(service, session, "You"))
    assert session.turn == before


def test_the_words_of_human_prompts_can_be_begun_with(service, raised):
    assert set(HUMAN) < set(service.text_names())
    assert service.words_of("short") == HUMAN["short"] and "Tiny" in service.words_of("template")
    for odd in ("none", "/etc/passwd", "text:x", None, ["short"]):
        assert "no words" in raised(lambda odd=odd: service.words_of(odd), DataError)


def test_a_place_of_a_ticked_prompt_outlives_its_draft():
    session = Session(ticked=["text:a"], places={"text:a": Place((0.0,), None, 0.0, None, False)})
    session.take_draft("text:a", session.places["text:a"])
    assert session.shown == ["text:a"]
    session.take_draft("", None)
    assert "text:a" in session.places


def test_a_place_that_comes_late_belongs_to_its_own_question(service, monkeypatch):
    lines = service.lines
    monkeypatch.setattr(service, "lines", lambda ticket: iter(["in line", *lines(ticket)]))
    session = Session(ticked=["none", "short"])
    session.ask("How do I bake bread?", service.space_name())
    first, waiting = session.places, explore.locating(service, session, ["short"])
    assert next(waiting) == "in line"
    session.ask("How do I pick a lock?", service.space_name())
    for _ in waiting:
        pass
    assert set(first) == {"short"} and session.places == {}
