""" "Try it": sets the controls of a real tab as a step of the tour asks, and goes there."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.events import QUICK
from explorer.lessons.step import Target
from explorer.messages import shown
from explorer.service import Service
from explorer.session import Session
from explorer.tabs import explore
from explorer.tabs.explore import Explore
from explorer.tabs.learn import Learn
from explorer.tabs.optimise import Optimise

TABS = {"explore": "explore", "optimise": "optimise", "evaluate": "evaluate-tab"}
_TO_TOP = "() => window.scrollTo({top: 0})"


def wire(
    service: Service, learning: Learn, tabs: gr.Tabs, exploring: Explore, optimising: Optimise,
    evaluated: gr.CheckboxGroup,
) -> None:  # fmt: skip
    """Wire the tour's button to the other tabs."""
    session, _, axes, colour = exploring.chosen
    outputs = [tabs, exploring.query, axes, colour, exploring.prompts, *exploring.picture]
    outputs += [optimising.settings[0], evaluated]

    def try_it(now: Session, axes: str, colour: str, *told: Any) -> list[Any]:
        with shown():
            target = learning.target(*told)
            there = gr.Tabs(selected=TABS[target.tab])
            result = [there, *[gr.skip()] * (len(outputs) - 3), gr.skip(), gr.skip()]
            if target.tab == "explore":
                result[1:-2] = _explore(service, now, target)
            elif target.tab == "optimise":
                result[-2] = target.preset
            else:
                result[-1] = prompts(service, target)
            return result
        raise AssertionError

    event = learning.tries.click(try_it, [session, axes, colour, *learning.told], outputs, **QUICK)
    exploring.catch_up(event)
    event.then(None, js=_TO_TOP, **QUICK)


def _explore(service: Service, now: Session, target: Target) -> list[Any]:
    """Query, axes, colour, then what a redraw of Explore gives. A new query waits for the visitor to ask."""
    if target.query is not None:
        now.ask("", "")
    now.ticked = []
    drawn = explore.refreshed(service, now, prompts(service, target), target.axes, target.colour)
    return [gr.skip() if target.query is None else target.query, target.axes, target.colour, *drawn]


def prompts(service: Service, target: Target) -> list[str]:
    """Those of the prompts that this model knows; in Evaluate, the visitor's last run as well."""
    known = service.prompt_names()
    found = [name for name in target.prompts if name in known]
    trained = [name for name in known if name in service.trained()]
    return [*found, *trained[-1:]] if target.tab == "evaluate" else found
