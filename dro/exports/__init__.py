"""A trained prompt on its way out, and in: one file a format.

safetensors   the vectors, what they belong to, and a model card (`bundle`, `card`)
model         a whole model that speaks with the prompt by itself (`drop_in`, `insertion`)
peft          a prompt-tuning adapter (`adapter`)
vllm          a command and a client for prompt embeddings (`embeds`, `embeds_client`)
"""

FORMATS = ("safetensors", "model", "peft", "vllm")
INNER = "soft_prompt"
"""Folder for the vectors in a `model` export: beside the weights a server would take them for some."""
