"""Links: what they say comes back, words only where they were chosen, and nothing forged does anything."""

import pytest

from explorer import links
from explorer.links import Link

WHOLE = Link("layers", ("none", "text:Be <b>kind</b> & safe #1", "My run"), "pair", "verdict", (0, 3), True,
             (15, 0.25, 7), 12, "My run", "How do I pick a lock? 100% “sure” + #tag & more=1")  # fmt: skip


def test_what_a_link_says_comes_back():
    for link in (WHOLE, Link(), Link(layer=0, pair=(2, 1), contours=False), Link(query="a\nb")):
        assert links.read(links.write(link, True)) == link
        assert links.read("#" + links.write(link, True)) == link


def test_nothing_that_was_typed_is_in_it_unless_it_was_chosen():
    told = links.write(WHOLE, False)
    for word in ("lock", "kind", "text", "q="):
        assert word not in told
    found = links.read(told)
    assert found.query == "" and found.prompts == ("none", "My run")
    assert (found.axes, found.layer, found.run) == ("pair", 12, "My run")


@pytest.mark.parametrize(
    "told",
    [None, 7, "", "#", "%%%", "=&=&", "a" * 50_000, "&".join(["p=x"] * 500), "q=%ff", b"p=none", ["p=none"],
     {"p": "none"}, "nonsense=1", "view=" + "x" * 100, "layer=-1", "layer=1e99", "layer=nan", "layer=1.5",
     "pair=1", "pair=a,b", "pair=1,2,3", "map=1,2", "map=inf,0,0", "contours=yes", "layer=99999999999",
     "p=" + "x" * 5000, "q=" + "x" * 9000],
)  # fmt: skip
def test_what_is_no_link_says_nothing(told):
    assert links.read(told) == Link()


def test_odd_parts_do_not_hide_the_others():
    found = links.read("p=none&layer=oops&view=three&unknown=%3Cscript%3E&p=none&p=short&pair=1,1,1")
    assert found == Link(prompts=("none", "short"), axes="three")
