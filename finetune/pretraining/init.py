"""Where a small base starts from, so that it learns to match a product with a history at once and not after a plateau.

    generator = torch.Generator().manual_seed(0)
    start_with_matching(model, generator)
    keep_levels_in_order(model, {0: 307, 1: 308, 2: 309}, generator)

To tell whether a product's words occurred in the history, a transformer needs heads that look at like tokens and heads
that look at near ones (to see that a like token stood behind "bought" and not behind "product:"). A small model finds
both only after tens of thousands of sessions. Here query and key projections begin equal, as in the "mimetic" start
of Trockman and Kolter (ICML 2023), half the heads of a layer in the fast rotary dimensions (near) and half in the slow
ones (alike).

Levels of numbers are tokens too, and to a new model 12 is no nearer to 13 than to any word: what it learns of one level
it has to learn anew of the next. So their embeddings are a random walk from level to level, which lets a linear layer
weigh "at least this level" as a thermometer code does, and stay that: trained, each would go its own way again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from transformers import Qwen3ForCausalLM

EMBEDDING = 0.05
"""Standard deviation of embeddings; their shared mean is as long as the rest of an embedding."""
LEAK = 0.05
"""Scale of what is not zeroed for good: a dimension that is zero in both query and key would get no gradient."""
ALIKE_GAIN = 1.5
"""Weight of the query norm in the slow dimensions: how sharply like tokens are preferred."""


@torch.no_grad()
def start_with_matching(model: Qwen3ForCausalLM, generator: torch.Generator) -> None:
    """Overwrite embeddings, query and key projections and query norms of a new model, in place.

    Needs as many key as query heads, and at least two.
    """
    config = model.config
    width, heads, size = config.hidden_size, config.num_attention_heads, config.head_dim
    assert heads == config.num_key_value_heads, "start_with_matching needs as many key as query heads"
    assert heads > 1, "start_with_matching needs at least two heads"
    shared = torch.randn(width, generator=generator)
    shared /= shared.norm()
    embeddings = torch.randn(config.vocab_size, width, generator=generator) * EMBEDDING
    model.model.embed_tokens.weight.copy_(embeddings + shared * EMBEDDING * width**0.5)
    # Rotary dimensions d and d + size/2 turn together, the first ones fastest.
    fast = (torch.arange(size) % (size // 2) < size // 6)[:, None]
    for layer in model.model.layers:
        projection = torch.randn(heads, size, width, generator=generator) / width**0.5
        for head in range(heads):
            if head < heads // 2:
                # The same query and key for every token: how far apart two tokens are decides alone.
                near = torch.outer(torch.randn(size, generator=generator), shared)
                projection[head] = torch.where(fast, near, LEAK * projection[head])
            else:
                # What all tokens share is taken out: what a token is decides, at any distance.
                alike = projection[head] - torch.outer(projection[head] @ shared, shared)
                projection[head] = torch.where(fast, LEAK * projection[head], alike)
        layer.self_attn.q_proj.weight.copy_(projection.view(heads * size, width))
        layer.self_attn.k_proj.weight.copy_(projection.view(heads * size, width))
        layer.self_attn.q_norm.weight.copy_(torch.where(fast[:, 0], 1.0, ALIKE_GAIN))


def keep_levels_in_order(model: Qwen3ForCausalLM, tokens: Mapping[int, int], generator: torch.Generator) -> None:
    """Give levels of numbers embeddings in which near levels are alike, in place, and keep these from being trained.

    Args:
        tokens: level -> its token, from the lowest level up; at least two.
    """
    weight = model.model.embed_tokens.weight
    rows = torch.tensor(list(tokens.values()))
    with torch.no_grad():
        weight[rows] = weight.mean(0) + EMBEDDING * level_walk(len(rows), weight.size(1), generator)
    keep_embeddings(model, rows)


def keep_embeddings(model: Qwen3ForCausalLM, tokens: torch.Tensor) -> None:
    """Keep the embeddings of some tokens, int64 [N], from being trained."""
    model.model.embed_tokens.weight.register_hook(
        lambda gradient: gradient.index_fill(0, tokens.to(gradient.device), 0.0)
    )


def level_walk(levels: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """A random walk around 0, each level's place on it scaled to a mean square of 1: float32 [levels, width]."""
    walk = torch.randn(levels, width, generator=generator).cumsum(0)
    walk -= walk.mean(0)
    return walk / walk.square().mean(1, keepdim=True).sqrt()
