"""Directed Representation Optimization (arXiv 2401.18018) for any chat model.

The way through: `models.load` gives a `ChatModel`; `prompts.resolve` a `SafetyPrompt`;
`states.last_token_states` the representation of queries under that prompt; `fitting.fit` a frozen
`Space`, in which `space.locate` places new queries; `optimise.Optimisation` trains a soft prompt and
yields `Step` records; `evaluate.evaluate` counts refusals on queries it has never seen.
docs/explorer.ipynb goes this way.
"""

__version__ = "0.1.0"
