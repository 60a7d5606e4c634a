"""Colours, shapes and the page's style; chosen to be read on light and on dark, and without colour."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_ASSETS = Path(__file__).resolve().parent.parent / "assets"
CSS = _ASSETS / "style.css"

HEAD = """<style>
@media (max-width: 640px) {
  .gradio-container { padding: .4rem !important; width: 100vw !important; min-width: 0 !important; }
  .gradio-container .main { padding: .4rem !important; width: 100% !important; min-width: 0; }
  table.facts .meter:not(.wide) { display: none; }
  .prose table.facts th, .prose table.facts td { padding: .3rem .12rem !important; }
  #facts table.facts tbody th { white-space: normal !important; }
  .prose table.facts thead th { font-size: .7rem !important; }
  #facts .verdict { padding: .05rem .2rem; }
}
/* For a projector: gradio's sizes are pixels, ours follow the root. */
@media (min-width: 641px) {
  html:has(body.large-type) {
    font-size: 20px; --text-xxs: 12px; --text-xs: 14px; --text-sm: 16px; --text-md: 19px; --text-lg: 21px;
    --text-xl: 27px; --text-xxl: 32px;
  }
  body.large-type table.facts .meter:not(.wide) { display: none; }
  body.large-type #facts table.facts { font-size: .78rem; }
  body.large-type .gradio-container { max-width: 1900px !important; }
}
</style>"""
"""What a style sheet of gradio's cannot say: there its own class stands before every rule, and selectors are
cut at commas."""
for _name in ("keys.js", "large_type.js"):
    HEAD += f"<script>{(_ASSETS / _name).read_text(encoding='utf-8')}</script>"


def theme() -> gr.themes.Base:
    """A quiet theme whose text passes contrast on both grounds; no fonts from elsewhere."""
    return gr.themes.Default(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_sm,
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_hover_dark="#991b1b",
        layout_gap="10px",
        block_padding="8px 10px",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
