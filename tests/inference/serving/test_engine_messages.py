"""What server and engine say to each other arrives as it was said, in whatever pieces it comes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reshelf.inference.serving.engine_messages import Done, Frames, Job, framed
from reshelf.prompts.builder import ListPrompt, Trimmed

IDS = np.arange(7, dtype=np.int32)
PROMPT = ListPrompt("l", IDS[:3], (IDS[3:4], IDS[4:6], IDS[6:7]), Trimmed(1, 2, 3), 2)
SCORES = np.array([0.5, -1.25], dtype=np.float32)


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_messages_come_in_any_pieces(messages: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(framed, messages))
    frames, found, at, turn = Frames(), [], 0, 0
    while at < len(stream):
        found += frames.feed(stream[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    assert found == messages


def test_lists_and_scores_arrive_whole() -> None:
    job, done = Frames().feed(framed(Job(7, "shop", PROMPT, "adapter1")) + framed(Done(7, SCORES.tobytes(), ms=2.5)))
    assert (job.number, job.namespace, job.adapter) == (7, "shop", "adapter1")
    prompt = job.prompt
    assert (prompt.list_id, prompt.trimmed, prompt.listed, prompt.tokens) == ("l", PROMPT.trimmed, 2, 7)
    for found, said in zip((prompt.prefix, *prompt.items), (PROMPT.prefix, *PROMPT.items), strict=True):
        assert found.dtype == np.int32
        assert found.tolist() == said.tolist()
    assert done.scores.dtype == np.float32
    assert done.scores.tolist() == SCORES.tolist()
    assert Done(7, None, error="ValueError").scores is None
