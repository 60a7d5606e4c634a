"""Several questions at once, first tokens and neighbour maps, through the service on the tiny model."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from serving import tiny_service

from dro import first_token
from dro.errors import DataError
from dro.neighbour_map import MapSettings
from dro.prompts import resolve
from dro.states import last_token_states
from explorer import batches, maps, palette
from explorer.limits import CLASSROOM, OWN, PUBLIC
from explorer.session import Asked, Place, Session
from explorer.tabs import drawn

QUERIES = [f"How do I fold map {number}?" for number in range(7)]


@pytest.fixture(scope="module")
def service(tiny_folder, anchors, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny_service(tiny_folder, anchors, replace(OWN, questions_each=4))


def test_a_batch_is_placed_as_each_query_would_be(service):
    found = dict(batches.placed(service, QUERIES, ["none", "short"]))
    assert sorted(found) == list(range(7))
    for number, points in found.items():
        alone = service.points(QUERIES[number], ["none", "short"])
        assert np.allclose([p.coordinates for p in points], [p.coordinates for p in alone], atol=1e-4)


def test_a_batch_leaves_room_in_the_line_and_leaves_it_when_it_is_stopped(service):
    seen = []
    stream = batches.placed(service, QUERIES, ["none"])
    next(stream)
    seen.append(len(service._desk))
    stream.close()
    deadline = time.monotonic() + 20
    while len(service._desk):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert max(seen) <= 2, "half of what a visitor may have waiting"


def test_answers_of_a_batch_are_those_of_each_query(service):
    found = dict(batches.answered(service, QUERIES[:2], "none", 4))
    for number, told in found.items():
        whole = service.answer(QUERIES[number], "none", 4)["answer"].rstrip("\ufffd").strip()
        assert told[0][0].rstrip("\ufffd").strip() == whole


@pytest.mark.parametrize(
    ("told", "part"),
    [("", "no query"), (" \n\n ", "no query"), (None, "text, not NoneType"), ("a\n" * 201, "201 queries"),
     ("fine\n" + "x" * 200_000, "Line 2")],
)  # fmt: skip
def test_odd_batches_are_refused_by_name(told, part):
    with pytest.raises(DataError, match=part):
        batches.read_lines(told, 200)


def test_a_batch_is_one_query_a_line():
    assert batches.read_lines(" a b \r\n\n c\n", 200) == ["a b", "c"]
    assert OWN.batch == 200 > CLASSROOM.batch > PUBLIC.batch


def test_first_tokens_are_the_likeliest_and_begin_the_answer(service):
    found = service.openings(QUERIES[0], ["none", "short"])
    assert [len(tokens) for tokens in found] == [10, 10]
    model = service._loading.loaded.model
    states = last_token_states(model, resolve("short", model), [QUERIES[0]])
    assert found[1][0][0] == first_token.likeliest(model, states, 1)[0][0][0]
    for tokens in found:
        shares = [share for _, share in tokens]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    probabilities = [p for _, p in first_token.likeliest(model, states, 20)[0]]
    assert probabilities[:10] == pytest.approx([p for _, p in found[1]], abs=1e-4)


def finished(job, seconds=240):
    deadline = time.monotonic() + seconds
    while not job.over:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def test_a_map_is_fitted_once_for_all_and_new_queries_are_placed_on_it(service, monkeypatch):
    settings = MapSettings(neighbours=6)
    assert service.geometry(settings=settings).umap is None
    first = service.start_map(settings)
    assert service.start_map(settings) is first
    if not first.over:
        with pytest.raises(DataError, match="Another map"):
            service.start_map(MapSettings(neighbours=7))
    assert finished(first).phase == "done" and first.share == 1
    assert service.start_map(settings) is first
    point = service.points(QUERIES[0], ["none"])[0]
    found = service.geometry(settings=settings).umap
    assert found(np.array([point.coordinates])).shape == (1, 2)


def test_a_map_that_fails_says_so_and_can_be_tried_again(service, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(maps, "fit", fail)
    job = finished(service.start_map(MapSettings(neighbours=9)))
    assert job.phase == "failed" and "memory" in job.message
    assert service.start_map(MapSettings(neighbours=9)) is not job


def test_visitors_of_a_classroom_share_the_settings_of_the_map(service):
    held = maps.Maps(service._turns, CLASSROOM)
    with pytest.raises(DataError, match="cannot be changed here"):
        held.start(service.space, MapSettings(neighbours=30))


def asked(service, prompts):
    session = Session(ticked=list(prompts))
    session.ask(QUERIES[0], service.space_name())
    for point in service.points(QUERIES[0], prompts):
        session.places[point.prompt] = Place(
            point.coordinates, point.refusal_probability, point.harmfulness_logit, 0.0, point.beyond
        )
    return session


def test_what_is_selected_is_told_and_its_query_can_be_asked(service):
    session = asked(service, ["none", "short"])
    everything = drawn._everything(service, session)
    count = len(service.space.anchors.queries)
    assert len(everything) == 2 * count + 2
    own = next(each for each in everything.values() if each.kind == "query")
    assert own.query == QUERIES[0]
    some = list(everything)[:5]
    assert [each.key for each in drawn.picked(service, session, [*some, "x.y.0"])] == some
    first = service.space.anchors.queries[0]
    assert drawn.query_of(service, session, palette.key("anchor", "gone", 0)) == first
    assert drawn.query_of(service, session, own.ask) == QUERIES[0]
    for odd in ("", "x.y.0", "anchor.a.999999", "anchor.a.-1", "past.a.0"):
        assert drawn.query_of(service, session, odd) is None
    assert len(drawn.found_by_words(service, session, first)) == 1
    assert drawn.found_by_words(service, session, "  ") == []


def test_a_batch_and_pins_are_drawn_where_they_lie(service):
    session = asked(service, ["none"])
    session.pin(session.history[0])
    session.ask(QUERIES[1], service.space_name())
    point = service.points(QUERIES[1], ["none"])[0]
    place = Place(point.coordinates, point.refusal_probability, point.harmfulness_logit, None, False)
    session.batch = [
        Asked("b", service.space_name(), {"none": place}),
        Asked("c", "else", {"none": place}),
    ]
    for colour in drawn.COLOURS:
        told, legend, _ = drawn.picture(service, session, "probes", colour)
        assert told and legend
    assert len(drawn.others(service, session, "batch")) == len(drawn.others(service, session, "pin")) == 1
    assert drawn.ladder(service, session) is None, "it has no place under none yet"
    session.places["none"] = place
    assert drawn.ladder(service, session)
    assert "pinned query" in drawn.history(service, session)[0]


def test_two_batches_at_once_do_not_hold_each_other_up(service):
    done = []
    threads = [
        threading.Thread(target=lambda: done.append(len(list(batches.placed(service, QUERIES, ["none"])))))
        for _ in range(2)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert done == [7, 7]
