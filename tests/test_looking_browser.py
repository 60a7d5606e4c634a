"""Looking and comparing by hand, in a real browser on the real default model: one plot all the way.

Any error of the page, any request that leaves the machine, and any remount of the plot fail the walk.
"""

import csv
import io
import os
import re

import pytest
from conftest import served
from playwright.sync_api import expect, sync_playwright
from test_browser import ANSWERS, ARGUMENTS, CHROMIUM, LOADING, _stays, ask, ready

from dro.sources import cache_folder
from explorer import text

pytestmark = pytest.mark.browser
MAP = 240_000
"""Milliseconds after which a map is broken rather than slow: the first one is compiled."""
SWITCH = 300 if os.environ.get("DRO_TIMED") else 60_000
"""Milliseconds of one view switch; measured only where nothing else runs on the machine (DRO_TIMED=1)."""
QUERIES = [f"How do I {act} a {thing}?" for act in ("pick", "force", "clean", "paint", "open")
           for thing in ("lock", "window", "colour", "pocket")]  # fmt: skip
PLOT = "#space-plot .js-plotly-plot"
_SWITCH = """([group, label]) => new Promise(done => {
  const host = document.querySelector('#space-plot .js-plotly-plot');
  const named = element => element.innerText.trim() === label;
  const began = performance.now();
  setTimeout(() => done(1e6), 90000);
  const drawn = () => { host.removeListener('plotly_react', drawn); done(performance.now() - began); };
  host.on('plotly_react', drawn);
  [...document.querySelectorAll(`${group} label`)].find(named).click();
})"""
_LASSO = """() => { const host = document.querySelector('#space-plot .js-plotly-plot');
  const box = host.getBoundingClientRect(), a = host._fullLayout;
  return [box.x + a.xaxis._offset, box.y + a.yaxis._offset, a.xaxis._length, a.yaxis._length]; }"""
_SELECTED = """() => document.querySelector('#space-plot .js-plotly-plot').data
  .map(t => (t.selectedpoints || []).length).reduce((a, b) => a + b, 0)"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    own = tmp_path_factory.mktemp("cache")
    (own / "models").symlink_to(cache_folder() / "models")
    with served(DRO_CACHE=str(own)) as url:
        yield url


@pytest.fixture
def watch(address):
    """Watches a page; what went wrong on it fails the test at its end."""
    faults = []

    def watched(made):
        made.on("pageerror", lambda error: faults.append(f"page error: {error}"))
        made.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
        made.on("request", lambda r: None if _stays(r.url, address) else faults.append(f"left: {r.url}"))
        return made

    yield watched
    assert not faults, faults


@pytest.fixture
def page(address, watch):
    assert CHROMIUM, "Chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        made = watch(browser.new_context(viewport={"width": 1280, "height": 800}).new_page())
        made.goto(address, wait_until="domcontentloaded", timeout=LOADING)
        yield made
        browser.close()


def switch(page, label, group="#axes"):
    """Milliseconds from the click to the drawn picture."""
    taken = page.evaluate(_SWITCH, [group, label])
    page.wait_for_timeout(600)
    assert page.locator(PLOT).get_attribute("data-same") == "yes", label
    assert taken < SWITCH, (label, taken)
    return taken


def inner_tab(page, name):
    page.locator("#more").get_by_role("tab", name=name, exact=True).click()


def saved(page, kind):
    page.locator("#space-plot .plot-tools summary").click()
    with page.expect_download() as download:
        page.locator(f"#space-plot button[data-take={kind}]").click()
    return download.value.path().read_bytes()


def test_a_batch_a_lasso_a_map_and_every_view_in_one_plot(page):
    expect(page.locator("#space-plot .main-svg").first).to_be_visible(timeout=LOADING)
    page.locator(PLOT).evaluate("node => { node.dataset.same = 'yes'; }")
    expect(page.locator("#selection")).to_be_hidden()
    ready(page)

    # Twenty questions at once: a table, and as many points.
    inner_tab(page, "Several at once")
    page.fill("#batch-lines textarea", "\n".join(QUERIES))
    page.click("#run-batch")
    expect(page.locator("#batch-progress")).to_contain_text("20 placed", timeout=ANSWERS)
    expect(page.locator("#batch-table tbody tr")).to_have_count(20)
    crosses = "h => document.querySelector(h).data.find(t => t.name === 'batch').x.length"
    page.wait_for_function(f"h => ({crosses})(h) === 20", arg=PLOT, timeout=20_000)

    # A lasso around the middle: the side table; the selection outlives every change of view and colour.
    page.locator("#space-plot button.lasso").click()
    page.locator(PLOT).evaluate("node => node.scrollIntoView({block: 'center'})")
    left, top, width, height = page.evaluate(_LASSO)
    corners = [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.32)]
    places = [(left + width * x, top + height * y) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    expect(page.locator("#selected tbody tr").first).to_be_visible(timeout=20_000)
    page.wait_for_timeout(800)
    count = page.evaluate(_SELECTED)
    assert count > 20
    times = {}
    for label in ("refusal × harmfulness", "any two", "components 1, 2"):
        times[label] = switch(page, label)
        assert page.evaluate(_SELECTED) == count, label
    for label in ("refused, answered", "refusal probability", "harmful, harmless"):
        times[label] = switch(page, label, "#colour")
        assert page.evaluate(_SELECTED) == count, label

    # A map, its settings chosen before it is fitted.
    page.locator("#axes label", has_text="UMAP").click()  # no map yet: the picture stays as it is
    expect(page.locator(".caption, .quiet").filter(has_text="Choose its settings")).to_be_visible()
    page.click("#fit-map")
    expect(page.locator(".caption").filter(has_text="UMAP of the anchors, 15 neighbours")).to_be_visible(
        timeout=MAP
    )
    assert page.locator(PLOT).evaluate("node => node.layout.xaxis.title.text") == "UMAP 1"
    assert page.evaluate(_SELECTED) == count
    assert page.evaluate(crosses, PLOT) == 20, "new questions are placed on the map"
    for label in ("components 1, 2", "UMAP", "3-D", "components 1, 2"):
        # Three dimensions need WebGL, which is software here: no bound of time is set for them.
        times[f"{label}, again"] = switch(page, label)
    print({label: round(taken) for label, taken in times.items()})

    # From the side table: the same question under the ticked prompts.
    asked = page.locator("#selected tbody tr").first
    words = asked.locator("th").evaluate("node => node.firstChild.textContent")
    asked.locator("button").click()
    expect(page.locator("#query textarea")).to_have_value(words)
    expect(page.locator("#facts tbody tr")).to_have_count(2, timeout=ANSWERS)
    page.click("#clear-selection")
    expect(page.locator("#selection")).to_be_hidden()
    assert page.locator(PLOT).get_attribute("data-same") == "yes"


def test_one_question_is_compared_pinned_and_taken_away(page):
    expect(page.locator("#space-plot .main-svg").first).to_be_visible(timeout=LOADING)
    page.locator(PLOT).evaluate("node => { node.dataset.same = 'yes'; }")
    ready(page)
    ask(page, "=HYPERLINK(1) <b>How</b> do I pick a lock?")
    expect(page.locator("#answers article")).to_have_count(2, timeout=ANSWERS)
    inner_tab(page, "Compare")
    stars = "h => document.querySelector(h)?.data.find(t => t.name === 'your question')?.x.length"

    def rungs(count):
        there = f"n => ({stars})('#ladder-plot .js-plotly-plot') === n"
        page.wait_for_function(there, arg=count, timeout=ANSWERS)

    rungs(2)
    page.locator("#prompts input:not(:checked)").first.check()
    rungs(3)
    page.click("#every-prompt")
    boxes = page.locator("#prompts input").count()
    expect(page.locator("#facts tbody tr")).to_have_count(boxes, timeout=ANSWERS)
    rungs(boxes)
    page.wait_for_function(  # every rung is within the picture
        "n => { const span = document.querySelector('#ladder-plot .js-plotly-plot')._fullLayout.yaxis.range;"
        " return Math.max(...span) > n - 1 && Math.min(...span) < 0; }", arg=boxes,
    )  # fmt: skip
    page.click("#first-tokens")
    expect(page.locator("#openings tbody tr")).to_have_count(10 * boxes, timeout=ANSWERS)
    expect(page.locator("#aligned tbody tr")).to_have_count(boxes, timeout=ANSWERS)
    expect(page.locator("#aligned ins").first).to_be_attached(timeout=ANSWERS)
    inner_tab(page, "History")
    page.locator("#history button", has_text="Pin").first.click()
    expect(page.locator("#pins tbody tr")).to_have_count(1)
    ask(page, "How do I pick a colour?")
    expect(page.locator("#history tbody tr")).to_have_count(2, timeout=ANSWERS)
    pins = "h => document.querySelector(h).data.find(t => t.name === 'pinned').x.length"
    page.wait_for_function(f"h => ({pins})(h) === 1", arg=PLOT, timeout=ANSWERS)
    page.locator("#history button", has_text="Back to it").last.click()
    expect(page.locator("#query textarea")).to_have_value("=HYPERLINK(1) <b>How</b> do I pick a lock?")

    rows = list(csv.reader(io.StringIO(saved(page, "csv").decode("utf-8-sig"))))
    assert len(rows) > 400 and rows[0][1].startswith("component 1")
    mine = [row for row in rows if row[0] == "your query"]
    assert len(mine) == boxes and mine[0][4] == "'=HYPERLINK(1) <b>How</b> do I pick a lock?"
    assert saved(page, "png")[:4] == b"\x89PNG"
    assert b"<svg" in saved(page, "svg")[:200]
    alone = saved(page, "html").decode()
    assert alone.startswith("<!doctype html>") and "Plotly.newPlot" in alone and "src=" not in alone[:200]
    assert '"showSendToCloud":false' in alone
    page.context.new_page()
    fresh = page.context.pages[-1]
    fresh.set_content(alone)
    expect(fresh.locator(".main-svg").first).to_be_visible(timeout=60_000)
    fresh.close()
    assert page.locator(PLOT).get_attribute("data-same") == "yes"


def test_a_prompt_is_edited_and_a_link_brings_everything_back_elsewhere(page, watch):
    page.locator(PLOT).evaluate("node => { node.dataset.same = 'yes'; }")
    ready(page)
    ask(page, "How do I pick a lock?")
    facts = page.locator("#facts tbody tr")
    expect(facts).to_have_count(2, timeout=ANSWERS)
    page.locator("button.label-wrap", has_text=text.OWN).click()
    # The point follows the words; the words of a moment ago leave none behind.
    page.fill("#own textarea", "You are a locksmith.")
    expect(facts).to_have_count(3, timeout=ANSWERS)
    first = facts.last.text_content()
    page.locator("#own textarea").press_sequentially(" Refuse whatever is against the law.", delay=5)
    expect(facts.last).not_to_have_text(first, timeout=ANSWERS)
    expect(facts).to_have_count(3)
    page.get_by_role("button", name=text.OWN_ADD, exact=True).click()
    expect(page.locator("#prompts input:checked")).to_have_count(3)
    switch(page, "refusal × harmfulness")
    switch(page, "refused, answered", "#colour")
    page.get_by_role("tab", name="Layers", exact=True).click()
    page.locator("#layer input[type=range]").fill("15")
    expect(page.locator("#layer-note")).to_contain_text("Layer 15 of 24", timeout=ANSWERS)

    copy, link = page.locator("#copy-link"), page.locator("#link textarea, #link input")
    copy.click()
    expect(link).to_have_value(re.compile("#.*view=probes.*layer=15"))
    assert "lock" not in link.input_value(), "what was typed is in nobody's link unbidden"
    page.locator("#link-words input").check()
    copy.click()
    expect(link).to_have_value(re.compile("lock"))
    other = watch(page.context.browser.new_context(viewport={"width": 1280, "height": 800}).new_page())
    other.goto(link.input_value(), wait_until="domcontentloaded", timeout=LOADING)
    expect(other.locator("#layer-note")).to_contain_text("Layer 15 of 24", timeout=LOADING)
    other.get_by_role("tab", name="Explore", exact=True).click()
    expect(other.locator("#query textarea")).to_have_value("How do I pick a lock?")
    expect(other.locator("#prompts input:checked")).to_have_count(3)
    expect(other.locator("#prompts label", has_text="You are a locksmith")).to_be_visible()
    for group, label in (("#axes", "refusal × harmfulness"), ("#colour", "refused, answered")):
        expect(other.locator(f"{group} label", has_text=label).locator("input")).to_be_checked()
    expect(other.locator("#facts tbody tr")).to_have_count(3, timeout=ANSWERS)
    other.context.close()
    assert page.locator(PLOT).get_attribute("data-same") == "yes"
