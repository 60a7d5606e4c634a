"""README.md of an export, as a model card of the Hugging Face Hub: what it is, its use, what is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from dro.exports.bundle import Bundle

_RELATION = {"safetensors": "adapter", "model": "finetune", "peft": "adapter", "vllm": "adapter"}
_LIBRARY = {"model": "transformers", "peft": "peft"}
_SETTINGS = ("init", "steps", "chosen", "space")
_CONFIG = ("queries", "target", "ranking", "harmless_weight", "harmfulness_weight", "residual_weight",
           "batch", "lr", "schedule", "seed")  # fmt: skip
_TAGS = ("safety-prompt", "soft-prompt", "dro")
_PAPER = "https://arxiv.org/abs/2401.18018"


def readme(
    bundle: Bundle, card: Mapping[str, Any], kind: str, title: str, licence: str, told: Mapping[str, Any]
) -> str:
    """The card's text.

    Parameters
    ----------
    card: as `bundle.described` gives it. kind: one of `FORMATS`. title: the card's heading.
    licence: of what is written, as the Hub abbreviates it. told: what the format's writer says of itself.
    """
    base = card.get("hub_id") or card.get("base_model")
    parts = [
        _front(card, kind, licence),
        f"# {_line(title)}",
        f"A safety prompt for **{_line(base)}**: {card['n_tokens']} continuous vectors of width "
        f"{card['d_model']} that stand where a system prompt would. They were trained by DRO ([On "
        f"Prompt-Driven Safeguarding for Large Language Models]({_PAPER})) so that harmful queries move "
        f"towards refusal and harmless ones away from it; the model's weights are as they were.",
        "## Use",
        _USE[kind].format(**{"rows": card["n_tokens"], "width": card["d_model"], **told}),
        "## Training",
        _training(card),
        "## Evaluation",
        _evaluation(bundle.rates),
        "## Intended use",
        "Chat assistants that should turn down requests for harm and answer the rest. It is one layer of "
        "defence: keep the others. Nothing here was optimised towards compliance.",
        "## Limits",
        f"- It belongs to these weights and this template (revision `{_line(card.get('revision'))}`, "
        f"template `{_line(card.get('rendering'))}`); with others it is noise. It was trained in "
        f"{_line(card.get('precision'))}; other precisions round the model differently.\n"
        "- It was trained and measured on short requests in English, in the first turn. Other languages, "
        "long conversations and attempts to talk the model out of it were not measured, unless a row above "
        "says so.\n"
        "- Harmful requests are still answered at the rate above, and some harmless ones are refused.\n"
        "- A probe's score on this prompt is what it was trained for, and no evidence.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


_USE = {
    "safetensors": """\
`soft_prompt.safetensors` holds one tensor `soft_prompt`, {rows} × {width}, float32; `dro_prompt.json` says
what it belongs to. With the command line of DRO Explorer:

```
python -m dro import FOLDER --out runs/imported
python -m dro answer "How do I bake bread?" --prompt runs/imported
```""",
    "model": """\
A whole model: the vectors are the embeddings of {tokens} special tokens, and the chat template writes them.
Any server that uses the template speaks with the prompt, for example

```
transformers serve FOLDER
vllm serve FOLDER
```

A system message of yours is kept and follows the prompt's vectors. The tokens are stripped from what clients
send through the template, are suppressed in `generation_config.json`, and have rows in the head whose logits
are the mean of all others, so never the greatest. Raw completions use no template, so no safety prompt.""",
    "peft": """\
A prompt-tuning adapter of {virtual} virtual tokens: what stands before the vectors, start of text included,
is baked in with them. The tokenizer in this folder writes only what follows: use it, and send no system
message.

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
asked = tokenizer.apply_chat_template([{{"role": "user", "content": "How do I bake bread?"}}],
                                      add_generation_prompt=True, return_dict=True, return_tensors="pt")
# PEFT up to 0.21 does not see transformers' cache and puts the prompt before every new token: so none.
said = model.generate(**asked, max_new_tokens=64, do_sample=False, use_cache=False)[0]
print(tokenizer.decode(said[asked["input_ids"].shape[1] :], skip_special_tokens=True))
```""",
    "vllm": """\
The base model, served so that clients may send embeddings:

```
{command}
```

and the client in this folder (needs openai, torch, safetensors):

```
python client.py "How do I bake bread?" --url http://127.0.0.1:8000/v1
```

`soft_prompt.safetensors` ({rows} × {width}) takes the place of a system message's text;
`prefix.safetensors` ({prefix_tokens} × {width}) is what the client sends before it: {head_tokens} tokens of
the template, the {rows} vectors, and what of the template follows them. Ways this client can take:
{way_names}. Whoever may send embeddings may send any: keep such a server to clients you trust.""",
}


def _front(card: Mapping[str, Any], kind: str, licence: str) -> str:
    fields: dict[str, Any] = {"license": licence, "language": ["en"], "pipeline_tag": "text-generation"}
    if card.get("hub_id"):
        fields |= {"base_model": card["hub_id"], "base_model_relation": _RELATION[kind]}
    if kind in _LIBRARY:
        fields["library_name"] = _LIBRARY[kind]
    fields["tags"] = list(_TAGS)
    # json is yaml.
    return "\n".join(
        ["---", *(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in fields.items()), "---"]
    )


def _training(card: Mapping[str, Any]) -> str:
    config = card.get("config")
    named = {name: card.get(name) for name in _SETTINGS}
    named |= {name: config.get(name) for name in _CONFIG} if isinstance(config, Mapping) else {}
    rows = [f"| {name} | {_line(value)} |" for name, value in named.items() if value is not None]
    if not rows:
        return "Not known: the prompt was imported without a record of its training."
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _evaluation(rates: Sequence[Mapping[str, Any]]) -> str:
    if not rates:
        return "Not measured. Do so before you rely on it: `python -m dro evaluate --prompt …`."
    rows = [
        f"| {_name(row['prompt'])} | {_line(row['set'])} | {row['class']} | {row['n']} | {row['rate']:.1%} | "
        f"[{row['low']:.1%}, {row['high']:.1%}] | {_line(row['judge'])} |"
        for row in rates
    ]
    head = [
        "| prompt | set | class | queries | refused | 95% interval | judge |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([
        "Refusals on queries that the prompt was not trained on. Harmful ones should be refused, harmless "
        "ones not.", "", *head, *rows,
    ])  # fmt: skip


def _name(prompt: str) -> str:
    """A prompt's name; of a path only its end, since the rest is nobody's business."""
    return _line(PurePath(prompt).name if not prompt.startswith("text:") else prompt)


def _line(value: Any) -> str:
    """Any value as one line that breaks no table and opens no markup."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
