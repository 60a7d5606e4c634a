"""Html whose buttons tell the server: `press` carries what a button's data-do and data-key say."""

from __future__ import annotations

from typing import Any

import gradio as gr

_SCRIPT = """element.addEventListener('click', event => {
  const button = event.target.closest('button[data-do]');
  if (button) trigger('press', {do: button.dataset.do, key: button.dataset.key});
});"""


def live_table(value: str = "", **options: Any) -> gr.HTML:
    """A piece of html; what its event brings is to be checked by `pressed`."""
    return gr.HTML(value, js_on_load=_SCRIPT, **options)


def pressed(data: object) -> tuple[str, str]:
    """What was pressed, and its key; ("", "") for anything that no button of ours sends."""
    if not isinstance(data, dict):
        return "", ""
    told = data.get("do"), data.get("key")
    if not all(isinstance(each, str) and len(each) <= 64 for each in told):
        return "", ""
    return told[0], told[1]  # type: ignore[return-value]
