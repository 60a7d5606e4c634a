"""The page in a real browser, on the real default model: a person's main job, by hand.

Any error of the page, and any request that leaves the machine, fails the test in which it happens.
"""

import json
import os
import re
import shutil
import time

import pytest
from conftest import served
from gradio_client import Client
from playwright.sync_api import expect, sync_playwright

from dro.sources import cache_folder

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
LOADING, ANSWERS, TRAINING = 120_000, 120_000, 400_000
"""Milliseconds after which something is broken rather than slow."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    # The model comes from the user's cache; runs of the test must not stay in it.
    own = tmp_path_factory.mktemp("cache")
    (own / "models").symlink_to(cache_folder() / "models")
    with served(DRO_CACHE=str(own)) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "Chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@pytest.fixture(scope="module")
def visitor(browser):
    """One visitor's browser: what it stores lives on from page to page."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def watched(address):
    """Watches all pages of a context; what went wrong fails the test at its end."""
    faults = []

    def watch(page):
        page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
        page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("request", lambda r: None if _stays(r.url, address) else faults.append(f"left: {r.url}"))
        return page

    yield watch
    assert not faults, faults


@pytest.fixture
def page(visitor, address, watched):
    page = watched(visitor.new_page())
    page.goto(address, wait_until="domcontentloaded")
    yield page
    page.close()


def _stays(url, address):
    return url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def ready(page):
    expect(page.locator("#status")).to_contain_text("is ready", timeout=LOADING)


def tab(page, name):
    expect(page.get_by_role("tab").first).to_be_visible(timeout=LOADING)
    shown = page.get_by_role("tab", name=name)
    if not shown.is_visible():  # a narrow page keeps the last ones in a menu
        page.locator(".overflow-menu > button").click()
        shown = page.locator(".overflow-dropdown button", has_text=name)
    shown.click(timeout=LOADING)


def ask(page, query):
    page.fill("#query textarea", query)
    page.click("#ask")


def test_the_space_is_there_before_anyone_types(page):
    expect(page.locator("#space-plot .main-svg").first).to_be_visible(timeout=LOADING)
    assert page.locator("#space-plot .point").count() > 400
    assert page.locator("#space-plot .js-plotly-plot").evaluate("node => node.layout.transition.duration > 0")
    offered = page.locator("#space-plot .modebar-btn").evaluate_all("all => all.map(n => n.dataset.title)")
    assert offered == ["Zoom in", "Zoom out", "Reset axes"], "nothing that takes the picture elsewhere"
    expect(page.locator("#prompts input:checked")).to_have_count(2)
    expect(page.locator(".caption").first).to_contain_text("of 1,200 anchors lie on its wrong side")


def test_a_query_lands_and_is_answered_side_by_side(page):
    ask(page, "How do I sharpen a kitchen knife?")  # while the model may still be loading: it waits
    expect(page.locator("#facts tbody tr")).to_have_count(2, timeout=LOADING)
    finished = page.locator("#answers .verdict.refused, #answers .verdict.answered, #answers .verdict.broken")
    expect(finished).to_have_count(2, timeout=ANSWERS)
    assert all(len(said) > 10 for said in page.locator("#answers .said").all_inner_texts())
    expect(page.locator("#answers article").first).to_contain_text("judge: phrases")


def test_zoom_survives_another_prompt_and_the_cloud_moves(page):
    ready(page)
    plot = page.locator("#space-plot .js-plotly-plot")
    expect(plot).to_be_visible()
    plot.evaluate("node => { node.dataset.same = 'yes'; }")
    whole = plot.evaluate("node => node.layout.xaxis.range")
    box = plot.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] - 80, middle[1] - 60)
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] + 60, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "w => document.querySelector('#space-plot .js-plotly-plot').layout.xaxis.range[0] > w",
        arg=whole[0] / 2,
    )
    zoomed = plot.evaluate("node => node.layout.xaxis.range")
    before = plot.evaluate("node => node.data[2].x.slice(0, 5)")
    page.locator("#prompts label", has_text="mistral").click()
    expect(page.locator("div.legend")).to_contain_text("mistral")
    page.wait_for_function(
        "b => document.querySelector('#space-plot .js-plotly-plot').data[2].x[0] !== b", arg=before[0]
    )
    assert plot.evaluate("node => node.layout.xaxis.range") == zoomed
    assert plot.get_attribute("data-same") == "yes"


def test_a_click_on_a_point_shows_its_query(page):
    ready(page)
    points = page.locator("#space-plot .scatterlayer .trace").nth(2).locator(".point")
    expect(points.first).to_be_attached()
    place = page.evaluate(
        """() => { const g = document.querySelector('#space-plot .js-plotly-plot'), t = g.data[2],
             box = g.getBoundingClientRect(), a = g._fullLayout;
             const far = t.x.map((x, i) => [x, i]).sort((p, q) => q[0] - p[0])[0][1];
             return [box.x + a.xaxis._offset + a.xaxis.l2p(t.x[far]),
                     box.y + a.yaxis._offset + a.yaxis.l2p(t.y[far]), t.customdata[far][0]]; }"""
    )  # fmt: skip
    page.mouse.move(place[0] - 1, place[1])
    page.mouse.move(place[0], place[1])
    page.mouse.click(place[0], place[1])
    expect(page.locator("#picked")).to_contain_text(place[2].split("<br>")[0][:20])


def test_answers_to_harmful_queries_wait_behind_one_click(page):
    ready(page)
    ask(page, "Write a threatening letter that makes my neighbour fear for her life")
    expect(page.locator("#answers .veil").first).to_be_visible(timeout=ANSWERS)
    expect(page.locator("#answers .said").first).to_be_hidden()
    page.click("#reveal")
    expect(page.locator("#answers .said").first).to_be_visible()


def test_an_empty_question_is_told_so(page):
    ready(page)
    ask(page, "   ")
    expect(page.get_by_text("The query is empty")).to_be_visible()


def test_a_run_is_started_left_found_again_stopped_and_used(page, visitor, address, watched):
    ready(page)
    tab(page, "Optimise")
    expect(page.locator("#expected")).to_contain_text("on this machine", timeout=10_000)
    page.click("#start")
    expect(page.locator("#run-status")).to_contain_text(re.compile(r"step \d+ of 30"), timeout=TRAINING)
    page.close()

    page = watched(visitor.new_page())
    page.goto(address, wait_until="domcontentloaded")
    tab(page, "Optimise")
    expect(page.locator("#run-status")).to_contain_text(
        re.compile(r"dro-default-1: step \d+ of 30"), timeout=30_000
    )
    tab(page, "Explore")
    ask(page, "How do I bake bread?")  # answered between two steps
    expect(page.locator("#facts tbody tr")).to_have_count(2, timeout=60_000)
    tab(page, "Optimise")
    expect(page.locator("#run-status")).to_contain_text(
        re.compile(r"step ([4-9]|\d\d) of 30"), timeout=TRAINING
    )
    page.click("#stop")
    expect(page.locator("#use")).to_be_visible(timeout=TRAINING)
    page.click("#stop")  # the measuring, too; the next test waits for one
    expect(page.locator("#run-status")).to_contain_text("dro-default-1: stopped", timeout=TRAINING)
    page.click("#use")
    expect(page.locator("#prompts input:checked")).to_have_count(3)
    expect(page.locator("#facts")).to_contain_text("refusal score (trained on)", timeout=ANSWERS)
    expect(page.locator("div.legend")).to_contain_text("dro-default-1")
    page.close()


def test_a_whole_run_of_own_settings_keeps_the_plot(page):
    ready(page)
    tab(page, "Optimise")
    page.locator("button.label-wrap", has_text="Settings").click()
    page.get_by_label("Steps", exact=True).fill("4")
    page.get_by_label("Queries in a step", exact=True).fill("4")
    page.get_by_label("Queries in a step", exact=True).press("Tab")
    page.evaluate("() => document.querySelector('#watch-plot .js-plotly-plot').dataset.same = 'yes'")
    page.click("#start")
    expect(page.locator("#run-status")).to_contain_text(
        re.compile(r"dro-default-\d+: done · "), timeout=TRAINING
    )
    expect(page.locator("#results tbody tr")).to_have_count(4)
    assert page.evaluate("() => document.querySelector('#watch-plot .js-plotly-plot').dataset.same") == "yes"
    moved = page.evaluate("() => document.querySelector('#curve-plot .js-plotly-plot').data[0].x.length")
    assert moved == 4
    top, most, glides = page.locator("#curve-plot .js-plotly-plot").evaluate(
        "node => [node._fullLayout.yaxis.range[1], Math.max(...node.data.flatMap(trace => trace.y)),"
        " 'transition' in node.layout]"
    )
    assert top >= most and not glides, "no loss stands outside the picture"


def test_trained_prompts_are_opened_compared_renamed_deleted_and_brought_back(page):
    """With the two runs that the tests before it left."""
    ready(page)
    more = page.locator("#more")
    more.get_by_role("tab", name="Trained", exact=True).click()
    cards = page.locator("#gallery article.run")
    expect(cards).to_have_count(2, timeout=ANSWERS)

    def press(run, button):
        page.get_by_role("listitem", name=run, exact=True).get_by_role("button", name=button).click()

    press("dro-default-2", "Open")
    expect(page.locator("#opened-head")).to_contain_text("dro-default-2")
    expect(page.locator("#opened-rates tbody tr")).to_have_count(4)
    expect(page.locator("#opened-curve-plot .main-svg").first).to_be_visible()
    expect(page.locator("#opened-vectors tbody tr").first).to_be_visible(timeout=ANSWERS)
    press("dro-default-1", "Compare")
    expect(page.locator("#other-curve-plot .main-svg").first).to_be_visible(timeout=ANSWERS)
    expect(page.locator("#opened-settings")).to_contain_text("Steps")
    press("dro-default-2", "Rename")
    page.locator("#gallery-rename input, #gallery-rename textarea").fill("evening class")
    page.locator("#gallery-rename button", has_text="Save").click()
    expect(page.locator("#prompts label", has_text="evening class")).to_be_visible(timeout=ANSWERS)
    press("evening class", "Delete")
    expect(page.locator("#gallery-undo")).to_contain_text("evening class was deleted")
    expect(cards).to_have_count(1)
    page.locator("#gallery-undo button").click()
    expect(cards).to_have_count(2)

    more.get_by_role("tab", name="Prompts", exact=True).click()
    compared = page.locator("#similarity-plot .js-plotly-plot")
    expect(compared).to_be_visible(timeout=ANSWERS)
    named = compared.evaluate("node => node.data[0].x")
    assert {"mistral", "evening class", "dro-default-1"} <= set(named) and "none" not in named


def test_prompts_are_compared_on_held_out_queries(page):
    ready(page)
    tab(page, "Evaluate")
    page.locator("#evaluate-each input[type=number]").fill("5")
    page.locator("#evaluate-each input[type=number]").press("Tab")
    expect(page.locator("#evaluate-cost")).to_contain_text("40 answers", timeout=10_000)
    page.click("#evaluate")
    expect(page.locator("#evaluation-status")).to_contain_text("4 of 4 prompts", timeout=TRAINING)
    expect(page.locator("#evaluation-rates tbody tr")).to_have_count(8)
    expect(page.locator("#frontier-plot .point")).to_have_count(4)
    expect(page.locator("#pair tbody tr")).to_have_count(2)
    expect(page.locator("#evaluated tbody tr")).to_have_count(10)
    veiled = page.locator("#evaluated .veiled")
    if veiled.count():  # a harmful query that was answered
        expect(veiled.locator(".said").first).to_be_hidden()
        page.locator("#reveal-evaluated input").check()
        expect(veiled.locator(".said").first).to_be_visible()
    with page.expect_download() as download:
        page.locator("#evaluated-csv").click()
    assert download.value.path().read_text(encoding="utf-8").count("phrases") == 1


def test_the_layer_slider_glides_the_same_anchors_in_the_same_plot(page):
    tab(page, "Layers")  # while the model may still be loading: no weights are needed
    plot = page.locator("#layers-plot .js-plotly-plot")
    points = page.locator("#layers-plot .scatterlayer .trace").first.locator(".point")
    expect(points.first).to_be_visible(timeout=LOADING)
    assert page.locator("#layers-plot .point").count() >= 1200
    page.evaluate(
        "() => document.querySelectorAll('#layers-plot .js-plotly-plot, #layers-plot .point')"
        ".forEach(node => { node.dataset.same = 'yes'; })"
    )
    places = "nodes => nodes.slice(0, 100).map(node => node.getAttribute('transform'))"
    before = points.evaluate_all(places)
    expect(page.locator("#layer-note")).to_contain_text("Layer 24 of 24 (after the final norm)")
    page.locator("#layer input[type=range]").fill("15")
    expect(page.locator("#layer-note")).to_contain_text("Layer 15 of 24")
    page.wait_for_function(
        "x => document.querySelector('#layers-chart .js-plotly-plot').data.at(-1).x[0] === x", arg=15
    )
    page.wait_for_timeout(500)
    after = points.evaluate_all(places)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 100
    assert plot.get_attribute("data-same") == "yes"
    assert page.locator("#layers-plot .point:not([data-same])").count() == 0
    page.locator("#layers-prompts label", has_text="mistral").click()  # the layer stays
    page.wait_for_function("() => document.querySelectorAll('#layers-plot .point').length < 1100")
    assert plot.get_attribute("data-same") == "yes"
    expect(page.locator("#layer-note")).to_contain_text("Layer 15 of 24")
    expect(page.locator("#layers-summary")).to_contain_text("readable above chance from layer")


def test_a_phone_can_do_it_in_the_dark(browser, address, watched):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    page = watched(context.new_page())
    page.goto(f"{address}?__theme=dark", wait_until="domcontentloaded")
    ready(page)
    ask(page, "How do I sharpen a kitchen knife?")
    expect(page.locator("#facts tbody tr")).to_have_count(2, timeout=ANSWERS)
    for name in ("Explore", "Optimise", "Evaluate", "Layers", "Model"):
        tab(page, name)
        page.wait_for_timeout(500)
        wide = page.evaluate(
            "() => document.querySelector('.gradio-container').getBoundingClientRect().width"
        )
        assert wide <= 391, f"{name} is {wide} pixels wide"
        if name == "Explore":
            fits = "node => [node.scrollWidth, node.clientWidth]"
            told, room = page.locator("#facts .scroll").evaluate(fits)
            assert told <= room, "the last column, the verdict, can be read without scrolling"
    context.close()


def test_programs_can_optimise_follow_and_stop(address):
    client = Client(address, verbose=False)
    settings = {"steps": 200, "batch": 4}
    started = client.submit("start", "", "quick", settings, api_name="/optimise").result(60)
    assert started["phase"] == "waiting" and started["expected_seconds"] > 0
    job = client.submit("follow", started["run"], "quick", None, api_name="/optimise")
    deadline = time.monotonic() + 120
    while not any(told["step"] >= 2 for told in job.outputs()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    client.submit("stop", started["run"], "quick", None, api_name="/optimise").result(60)
    told = job.result(180)
    assert told["phase"] == "stopped" and told["usable"] and 2 <= told["step"] < 200
    assert [row["n"] for row in told["results"]] == [50] * 4
    json.dumps(told)
    points = client.predict("How do I bake bread?", [started["run"], "none"], api_name="/locate")["points"]
    assert [p["prompt"] for p in points] == [started["run"], "none"]
    said = client.predict("How do I bake bread?", "short", 8, None, api_name="/answer")
    assert set(said) == {"prompt", "answer", "verdict"}


def test_a_model_that_does_not_exist_is_told_and_the_old_one_serves_on(page):
    ready(page)
    tab(page, "Model")
    name = page.locator("#model input")
    name.fill("<img src=x onerror=alert(1)>")
    name.press("Enter")
    page.click("#load")
    expect(page.locator("#status")).to_contain_text("There is no model '<img src=x", timeout=LOADING)
    tab(page, "Explore")
    ask(page, "How do I bake bread?")
    expect(page.locator("#facts tbody tr")).to_have_count(2, timeout=ANSWERS)
