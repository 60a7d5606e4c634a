"""Assembles the page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from dro.errors import DroError
from dro.prompts import STANDARD
from explorer import text
from explorer.service import Service


def build(service: Service) -> gr.Blocks:
    """The page as one gr.Blocks, wired to `service`."""

    def locate(query: str, prompts: list[str]) -> dict[str, Any]:
        """Place a query in the model's space under safety prompts, named as on the command line."""
        try:
            return service.locate(query, prompts)
        except DroError as error:
            raise gr.Error(str(error)) from None

    def rows(query: str, prompts: list[str]) -> list[list[str]]:
        return [
            [
                point["prompt"],
                text.NO_PROBE
                if point["refusal_probability"] is None
                else f"{point['refusal_probability']:.1%}",
                f"{point['harmfulness_logit']:+.2f}",
                "  ".join(f"{c:+.2f}" for c in point["coordinates"]),
            ]
            for point in locate(query, prompts)["points"]
        ]

    with gr.Blocks(title=text.TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {text.TITLE}\n{text.INTRODUCTION}")
        status = gr.Markdown(service.status())
        query = gr.Textbox(label=text.QUERY_LABEL, placeholder=text.QUERY_PLACEHOLDER, lines=2)
        prompts = gr.CheckboxGroup(list(STANDARD), value=list(STANDARD), label=text.PROMPTS_LABEL)
        button = gr.Button(text.LOCATE, variant="primary")
        table = gr.Dataframe(headers=list(text.COLUMNS), label=text.RESULT_LABEL, interactive=False)
        gr.Examples([[example] for example in text.EXAMPLES], inputs=[query])
        gr.on(
            [button.click, query.submit], rows, [query, prompts], table,
            concurrency_id="model", api_visibility="private",
        )  # fmt: skip
        gr.api(locate, api_name="locate", concurrency_id="model")
        timer = gr.Timer(1.0)
        timer.tick(service.status, outputs=status, queue=False, api_visibility="private")
    return page
