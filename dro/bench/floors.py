"""The least a call can take: its operations over the machine's rate, or its bytes over bandwidth.

Operations are those of the shared-prefix way: matrix products of every token that has to be computed
(two for a multiply-add), and attention. In the last layer only keys and values are needed of tokens
that nobody reads out, so the rest of that layer is not counted for them. Bytes are the weights, read
once in every pass. Everything else (norms, activations, softmax) counts as free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dro.bench.ceilings import Ceilings
from dro.models import ChatModel

Call = tuple[float, float]
"""Operations and bytes of one pass."""


@dataclass(frozen=True)
class Cost:
    """What a model costs: weights used for a token, and attention for a pair of positions.

    Attributes
    ----------
    layers: how many. layer: weights of one layer's matrices; kv: those of its keys and values.
    head: weights of the vocabulary head. pair: operations of one query position over one key, a layer.
    weight_bytes: bytes of all layers' matrices as they lie in memory; head_bytes: of the head.
    """

    layers: int
    layer: int
    kv: int
    head: int
    pair: int
    weight_bytes: int
    head_bytes: int

    def forward(self, tokens: int, pairs: int, read_out: int) -> Call:
        """One pass over `tokens`, of which `read_out` are read after the last layer."""
        inner = self.layers - 1
        products = tokens * (inner * self.layer + self.kv) + read_out * (self.layer - self.kv)
        # The last layer's attention serves those that are read out alone.
        attention = self.pair * pairs * (inner + (read_out / tokens if tokens else 0))
        return 2.0 * products + attention, float(self.weight_bytes)

    def backward(self, tokens: int, pairs: int, read_out: int) -> Call:
        """Gradients to the inputs through frozen weights: the products once, attention twice."""
        operations, size = self.forward(tokens, pairs, read_out)
        inner = self.layers - 1
        return operations + self.pair * pairs * (inner + (read_out / tokens if tokens else 0)), size

    def vocabulary(self, rows: int) -> Call:
        """Logits of `rows` states."""
        return 2.0 * rows * self.head, float(self.head_bytes)


def cost(model: ChatModel) -> Cost:
    """The cost of a loaded model, read off its linear modules."""
    config = model.model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    every = {name: m for name, m in model.backbone.named_modules() if isinstance(m, torch.nn.Linear)}
    weights = sum(_size(m) for m in every.values())
    kv = sum(_size(m) for name, m in every.items() if name.rsplit(".", 1)[-1] in ("k_proj", "v_proj"))
    head = model.model.get_output_embeddings()
    layers = config.num_hidden_layers
    return Cost(
        layers,
        weights // layers,
        kv // layers,
        _size(head),
        4 * config.num_attention_heads * width,
        sum(_bytes(m) for m in every.values()),
        _bytes(head),
    )


def _size(module: torch.nn.Linear) -> int:
    return module.in_features * module.out_features


def _bytes(module: torch.nn.Linear) -> int:
    return module.weight.numel() * module.weight.element_size()


def pairs(prefix: int, own: Sequence[int]) -> int:
    """Query-key pairs of own tokens behind a prefix of `prefix` tokens."""
    return sum(n * prefix + n * (n + 1) // 2 for n in own)


def together(*calls: Call) -> Call:
    """Several passes that share one reading of the weights."""
    return sum(c[0] for c in calls), max(c[1] for c in calls)


def seconds(calls: Sequence[Call], ceilings: Ceilings, dtype: torch.dtype) -> float:
    """The floor of calls that come one after another."""
    rate = ceilings.flops(dtype)
    return sum(max(operations / rate, size / ceilings.bandwidth) for operations, size in calls)
