"""The page for people who do not see it, or use no mouse: axe-core in both themes, and the keyboard alone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from test_browser import ANSWERS, LOADING, address, browser, ready, tab, watched  # noqa: F401  # fixtures

from explorer import text

pytestmark = pytest.mark.browser
TABS = ("Explore", "Optimise", "Evaluate", "Layers", "Learn", "Model")
FINISHED = "#answers .verdict.refused, #answers .verdict.answered, #answers .verdict.broken"
SHUTS_OUT = ("serious", "critical")

FOCUSED = """() => {
  const on = document.activeElement;
  if (on === document.body) return null;
  const words = ids => (ids || '').split(/\\s+/).map(id => document.getElementById(id)?.textContent || '');
  const name = [on.getAttribute('aria-label'), ...words(on.getAttribute('aria-labelledby')),
                ...[...(on.labels || [])].map(label => label.textContent), on.textContent, on.title,
                on.dataset.title].find(told => told && told.trim());
  return {name: (name || '').trim().slice(0, 60), what: on.outerHTML.slice(0, 160),
          within: ['more', 'prompts', 'ask', 'query', 'space-plot']
            .find(id => document.getElementById(id)?.contains(on)) || ''};
}"""
"""What has the focus: its accessible name, as far as the page gives one, and the part it is in."""


@pytest.fixture
def page(request, browser, address, watched):  # noqa: F811
    theme = getattr(request, "param", "light")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)
    made = watched(context.new_page())
    made.goto(f"{address}?__theme={theme}", wait_until="domcontentloaded")
    ready(made)
    yield made
    context.close()


def violations(page, where):
    """What axe-core takes to shut somebody out, each with its first element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{where}: {each['id']} ({each['impact']}), {node['html'][:120]}"
        for each in found if each["impact"] in SHUTS_OUT for node in each["nodes"][:3]
    ]  # fmt: skip


def opened(page):
    """Unfold what is folded in the open tab: what is hidden is not looked at."""
    folded = page.locator("button.label-wrap:not(.open):visible")
    for _ in range(folded.count()):
        folded.first.click()


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_nothing_on_any_tab_shuts_anybody_out(page):
    page.fill("#query textarea", "How do I pick a lock?")
    page.click("#ask")
    expect(page.locator("#stop-answers")).to_be_visible(timeout=ANSWERS)
    found = violations(page, "while it writes")
    expect(page.locator(FINISHED)).to_have_count(2, timeout=ANSWERS)
    for name in TABS:
        tab(page, name)
        page.wait_for_timeout(1000)  # what fades in has less contrast
        opened(page)
        inner = page.locator("#more [role=tab]").all_inner_texts() if name == "Explore" else [""]
        for each in inner:
            if each:
                page.locator("#more [role=tab]", has_text=each).first.click()
            page.wait_for_timeout(700)
            found += violations(page, f"{name} {each}")
    assert not found, "\n".join(found)


def test_the_keyboard_reaches_everything_in_order_and_hears_what_it_is(page):
    expect(page.locator("#space-plot .main-svg").first).to_be_visible(timeout=LOADING)
    page.get_by_role("tab", name="Explore").focus()
    seen = []
    for _ in range(150):
        page.keyboard.press("Tab")
        on = page.evaluate(FOCUSED)
        if on is None:  # past the last one
            break
        assert on["name"], f"nobody hears what this is: {on['what']}"
        seen.append(on)
    assert len(seen) > 30
    parts = list(dict.fromkeys(each["within"] for each in seen if each["within"]))
    assert parts == ["space-plot", "query", "ask", "prompts", "more"]


def test_large_type_makes_words_and_pictures_larger_and_is_remembered(page):
    plot = page.locator("#space-plot .js-plotly-plot")
    expect(plot).to_be_visible(timeout=LOADING)
    plot.evaluate("node => { node.dataset.same = 'yes'; }")
    words = "() => parseFloat(getComputedStyle(document.querySelector('#query textarea')).fontSize)"
    letters = "() => document.querySelector('#space-plot .js-plotly-plot')._fullLayout.font.size"
    before, drawn = page.evaluate(words), page.evaluate(letters)
    expect(page.locator("#large-type")).to_have_attribute("aria-pressed", "false")
    page.click("#large-type")
    expect(page.locator("#large-type")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"b => ({letters})() > 1.2 * b", arg=drawn)
    assert page.evaluate(words) > 1.2 * before
    assert plot.get_attribute("data-same") == "yes"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 1280
    assert violations(page, "large type") == []
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#large-type")).to_have_attribute("aria-pressed", "true", timeout=LOADING)
    expect(plot).to_be_visible(timeout=LOADING)
    page.wait_for_function(f"b => ({letters})() > 1.2 * b", arg=drawn)
    page.click("#large-type")
    page.wait_for_function(f"b => ({letters})() === b", arg=drawn)
    assert page.evaluate(words) == before


def test_ctrl_enter_asks_and_escape_stops_the_answers(page):
    page.fill("#query textarea", "How do I sharpen a kitchen knife?")
    page.locator("#query textarea").press("Control+Enter")
    expect(page.locator("#facts tbody tr")).to_have_count(2, timeout=ANSWERS)
    expect(page.locator("#stop-answers")).to_be_visible(timeout=ANSWERS)
    page.keyboard.press("Escape")
    expect(page.locator("#answers")).to_contain_text(text.ANSWER_STOPPED, timeout=ANSWERS)
    expect(page.locator("#answers")).not_to_contain_text(text.WRITING)
    expect(page.locator("#facts")).to_contain_text(text.ANSWER_STOPPED)
    expect(page.locator("#stop-answers")).to_be_hidden()
    page.locator("#query textarea").press("Control+Enter")  # what was stopped can be asked again
    expect(page.locator(FINISHED)).to_have_count(2, timeout=ANSWERS)


def test_ctrl_enter_runs_what_the_focus_is_in(page):
    page.locator("#more [role=tab]", has_text=text.TAB_BATCH).click()
    page.fill("#batch-lines textarea", "How do I bake bread?")
    page.locator("#batch-lines textarea").press("Control+Enter")
    expect(page.locator("#batch-table tbody tr")).to_have_count(1, timeout=ANSWERS)
    expect(page.locator("#facts tbody tr")).to_have_count(0)
    tab(page, "Learn")
    page.locator("#tour-question input").first.check()
    page.locator("#tour-question input").first.press("Control+Enter")
    expect(page.locator("#tour .told")).to_be_visible(timeout=ANSWERS)
