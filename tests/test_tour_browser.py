"""The whole tour in a real browser, on a machine that has no weights and cannot get any."""

import pytest
from conftest import served
from playwright.sync_api import expect, sync_playwright
from test_browser import ARGUMENTS, CHROMIUM, _stays, tab

from explorer.lessons import text
from explorer.lessons.material import load
from explorer.lessons.tour import STEPS

pytestmark = pytest.mark.browser
NOWHERE = "http://127.0.0.1:9/"
SOON = 30_000
"""Milliseconds after which something is broken rather than slow."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    empty = str(tmp_path_factory.mktemp("cache"))
    with served(DRO_CACHE=empty, PIP_INDEX_URL=NOWHERE, PIP_RETRIES="0", HF_HUB_OFFLINE="1") as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "Chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@pytest.fixture(params=["desktop", "phone"])
def page(request, browser, address):
    small = request.param == "phone"
    context = browser.new_context(
        viewport={"width": 390, "height": 844} if small else {"width": 1280, "height": 800},
        color_scheme="dark" if small else "light", has_touch=small,
    )  # fmt: skip
    faults, made = [], context.new_page()
    made.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    made.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
    made.on("request", lambda r: None if _stays(r.url, address) else faults.append(f"left: {r.url}"))
    made.goto(f"{address}?__theme={'dark' if small else 'light'}", wait_until="domcontentloaded")
    tab(made, "Learn")
    expect(made.locator("#tour-plot .main-svg").first).to_be_visible(timeout=SOON)
    yield made
    context.close()
    assert not faults, faults


def at(page, index):
    """Wait for a step of the tour, with its own question and figure."""
    step = STEPS[index]
    expect(page.locator("#tour-says h2")).to_have_text(f"{index + 1}. {step.title}", timeout=SOON)
    expect(page.locator("#tour-question input")).to_have_count(
        len(step.question(load(), step.start(load())).options), timeout=SOON
    )


def go(page, index):
    """Choose a step as often as it takes: a click that an answer of the server overtakes is lost."""
    title = page.locator("#tour-says h2")
    for _ in range(20):
        page.locator("#tour-steps label").nth(index).click()
        try:
            expect(title).to_have_text(f"{index + 1}. {STEPS[index].title}", timeout=SOON / 10)
            break
        except AssertionError:
            continue
    at(page, index)


def answer(page, index, chosen=None):
    """Give a wrong answer, then the right one, to a step's question."""
    step = STEPS[index]
    chosen = chosen or step.start(load())
    question = step.question(load(), chosen)
    expect(page.locator("#tour-notice")).to_contain_text(step.notice(load(), chosen), timeout=SOON)
    expect(page.locator("#tour-question > span")).to_contain_text(question.ask, timeout=SOON)
    feedback, options = page.locator("#tour-feedback"), page.locator("#tour-question input")
    for wrong, told in ((True, text.WRONG), (False, text.RIGHT)):
        picked = question.right if not wrong else (question.right + 1) % len(question.options)
        options.nth(picked).check()
        page.click("#tour-check")
        expect(feedback).to_contain_text(told, timeout=SOON)
    expect(feedback).to_contain_text(question.why[:40])


def test_the_whole_tour_is_walked_and_every_question_answered(page):
    page.evaluate("() => document.querySelector('#tour-plot .js-plotly-plot').dataset.same = 'yes'")
    expect(page.locator("#tour-back")).to_be_disabled()
    for index in range(len(STEPS)):
        at(page, index)
        answer(page, index)
        assert page.locator("#tour-plot .js-plotly-plot .main-svg").count() > 0
        wide = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 1, f"step {index + 1} is {wide} pixels too wide"
        if index + 1 < len(STEPS):
            page.click("#tour-next")
    expect(page.locator("#tour-next")).to_be_disabled()
    expect(page.locator("#tour-feedback")).to_contain_text(text.FINISHED)
    assert page.locator("#tour-steps label").all_inner_texts() == [f"✓ {step.name}" for step in STEPS]
    assert page.evaluate("() => document.querySelector('#tour-plot .js-plotly-plot').dataset.same") == "yes"


def test_an_answer_follows_what_is_shown(page):
    go(page, 1)
    page.locator("#tour-2-set input").last.check()
    square = {**STEPS[1].start(load()), "set": "square"}
    answer(page, 1, {**square, **STEPS[1].follow("set", square)})
    page.locator("#tour-2-x input[type=number]").fill("5")
    page.locator("#tour-2-x input[type=number]").press("Tab")
    points = "() => document.querySelector('#tour-plot .js-plotly-plot').data.at(-3).x[0]"
    page.wait_for_function(f"() => ({points})() === 5", timeout=SOON)
    expect(page.locator("#tour-feedback")).to_be_empty()


def test_the_run_plays(page):
    go(page, 5)
    page.click("#tour-play")
    number = page.locator("#tour-6-step input[type=number]")
    expect(number).to_have_value("0", timeout=SOON)
    expect(number).to_have_value(str(load().run.steps), timeout=SOON)


def test_the_steps_are_reached_by_keyboard(page):
    page.locator("#tour-steps input").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    at(page, 1)
    page.locator("#tour-next").focus()
    page.keyboard.press("Enter")
    at(page, 2)
    options = page.locator("#tour-question input")
    options.first.focus()
    page.keyboard.press("Space")
    for _ in range(options.count()):
        page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "tour-check"
    page.keyboard.press("Enter")
    expect(page.locator("#tour-feedback p")).to_be_visible(timeout=SOON)
    expect(page.locator("#tour-feedback p")).not_to_contain_text(text.CHOOSE)


def test_try_it_sets_the_real_controls(page):
    go(page, 3)
    page.click("#tour-try")
    for name, ticked in (("template", True), ("default", True), ("none", False)):
        expect(page.locator(f"#prompts input[name={name}]")).to_be_checked(checked=ticked, timeout=SOON)
    tab(page, "Learn")
    go(page, 4)
    page.click("#tour-try")
    expect(page.get_by_label("refusal × harmfulness")).to_be_checked(timeout=SOON)
    tab(page, "Learn")
    go(page, 0)
    page.click("#tour-try")
    expect(page.locator("#query textarea")).to_have_value(load().pairs[0][1].query, timeout=SOON)
    tab(page, "Learn")
    go(page, 5)
    page.click("#tour-try")
    expect(page.locator("#start")).to_be_visible(timeout=SOON)
    tab(page, "Learn")
    go(page, 6)
    page.click("#tour-try")
    expect(page.locator("#evaluate-prompts input:checked")).to_have_count(1, timeout=SOON)
    expect(page.locator("#evaluate-prompts input[name=short]")).to_be_checked()
