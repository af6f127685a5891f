"""What of a list did not fit its prompt, in words for people, in the language of the model.

truncation_remarks(ranked.truncated, "en")     # ["the 12 oldest events did not fit the prompt"]
"""

from __future__ import annotations

from reshelf.prompts.list_prompt import Truncated
from reshelf.translation import translations


def truncation_remarks(truncated: Truncated, language: str) -> list[str]:
    """A sentence for each part that lost something; none where everything was read.

    Args:
        truncated: of one list.
        language: `PromptConfig.language` of the model.

    Examples:
        >>> truncation_remarks(Truncated(events=2), "en")
        ['the 2 oldest events did not fit the prompt']
    """
    say = translations(language)
    found = {
        "events": say.ngettext(
            "the oldest event did not fit the prompt",
            "the {n} oldest events did not fit the prompt",
            truncated.events,
        ),
        "event_tokens": say.ngettext(
            "{n} token of long events did not fit the prompt",
            "{n} tokens of long events did not fit the prompt",
            truncated.event_tokens,
        ),
        "item_tokens": say.ngettext(
            "{n} token of long products did not fit the prompt",
            "{n} tokens of long products did not fit the prompt",
            truncated.item_tokens,
        ),
        "list_tokens": say.ngettext(
            "{n} token of the list of products did not fit the prompt",
            "{n} tokens of the list of products did not fit the prompt",
            truncated.list_tokens,
        ),
        "context_tokens": say.ngettext(
            "{n} token at the ends of the context's texts did not fit the prompt",
            "{n} tokens at the ends of the context's texts did not fit the prompt",
            truncated.context_tokens,
        ),
        "query_tokens": say.ngettext(
            "{n} token at the end of the query did not fit the prompt",
            "{n} tokens at the end of the query did not fit the prompt",
            truncated.query_tokens,
        ),
    }
    return [text.format(n=getattr(truncated, name)) for name, text in found.items() if getattr(truncated, name)]
