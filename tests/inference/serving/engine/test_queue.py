"""The queue in front of the engine: what it expects of the engine's pace."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from reshelf.inference.engines.messages import NotScored, ProtocolError, Scored, decode_list
from reshelf.inference.serving.engine.queue import Pace, ScoringQueue, UnservedError
from reshelf.prompts.list_prompt import ListPrompt, Truncated


def test_pace_is_seconds_per_token_of_late() -> None:
    pace = Pace()
    assert (pace.seconds(10_000), pace.tokens(10)) == (0.0, 0.0), "nothing known, nothing expected"
    for _ in range(300):
        pace.learn(0.1, 1000, 50)
    assert pace.seconds(5000) == pytest.approx(0.5)
    assert pace.tokens(100) == pytest.approx(2000)
    for _ in range(200):
        pace.learn(0.2, 1000, 50)
    assert pace.seconds(1000) == pytest.approx(0.2, rel=0.01), "what was long ago no longer counts"


def test_lists_that_come_back_together_are_as_fast_as_all_of_them() -> None:
    burst, even = Pace(), Pace()
    for _ in range(200):
        for n in range(4):
            burst.learn(0.4 if n == 0 else 0.0, 1000, 50)
            even.learn(0.1, 1000, 50)
    assert burst.seconds(4000) == pytest.approx(even.seconds(4000), rel=0.1)


PROMPT = ListPrompt("l", np.arange(3, dtype=np.int32), (np.arange(2, dtype=np.int32),), Truncated())
SCORES = np.array([1.5], dtype="<f4").tobytes()


def test_an_engine_that_is_not_there_admits_nothing() -> None:
    queue = ScoringQueue(4)
    with pytest.raises(UnservedError, match="engine_down"):
        queue.admit("shop", 1, 10.0)
    with pytest.raises(UnservedError, match="engine_down"):
        queue.put(PROMPT, "shop")


def test_only_so_many_are_in_flight_and_only_so_many_wait() -> None:
    async def fill() -> None:
        sent: list[Any] = []
        queue = ScoringQueue(2)
        queue.connect(sent.append, in_flight=1)
        first, second, third = (queue.put(PROMPT, "shop") for _ in range(3))
        assert [message.number for message in sent] == [1]
        assert queue.depth == 3
        with pytest.raises(UnservedError, match="queue_full"):
            queue.put(PROMPT, "shop")
        second.cancel()  # its caller stopped waiting: it is never sent
        queue.take(Scored(1, (SCORES,)))
        assert first.result().scores.tolist() == [1.5]
        assert [message.number for message in sent] == [1, 3]
        queue.disconnect()
        with pytest.raises(UnservedError, match="engine_down"):
            third.result()
        assert queue.depth == 0

    asyncio.run(fill())


def test_tenants_take_turns_and_the_one_with_most_makes_room() -> None:
    async def fill() -> None:
        sent: list[Any] = []
        queue = ScoringQueue(4)
        queue.connect(sent.append, in_flight=1)
        many = [queue.put(PROMPT, "many") for _ in range(5)]
        few = [queue.put(PROMPT, "few") for _ in range(2)]
        with pytest.raises(UnservedError, match="queue_full"):
            queue.put(PROMPT, "few")
        for future in many[3:]:
            with pytest.raises(UnservedError, match="queue_full"):
                future.result()
        for number in range(4):
            queue.take(Scored(sent[number].number, (SCORES,)))
        assert [message.namespace for message in sent] == ["many", "few", "many", "few", "many"]
        assert all(future.done() for future in few)

    asyncio.run(fill())


def test_a_long_list_is_scored_in_pieces_between_which_others_have_their_turn() -> None:
    async def fill() -> None:
        sent: list[Any] = []
        queue = ScoringQueue(64)
        queue.connect(sent.append, in_flight=1)
        queue._pace.learn(1.0, 6000, 10)
        items = tuple(np.full(512, k, dtype=np.int32) for k in range(9))
        long = ListPrompt("l", np.arange(3, dtype=np.int32), items, Truncated())
        whole, short, given_up = (queue.put(prompt, who) for prompt, who in ((long, "a"), (PROMPT, "b"), (long, "a")))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        waited = 0
        while queue.depth:
            message = sent[-1]
            values = np.array([item[0] for item in decode_list(message.lists[0]).items], dtype=np.float32)
            waited += not short.done()
            queue.take(Scored(message.number, (values.tobytes(),), cached_tokens=2))
        assert (await whole).scores.tolist() == list(range(9))
        assert ((await whole).prompt_tokens, (await whole).cached_tokens) == (4611, 2)
        assert waited == 2 < len(sent) == 6, (
            "five pieces of at least 1,024 tokens where that can be, and the other tenant's list behind the first"
        )
        queue._pace.learn(1000.0, 6000, 10)
        broken = queue.put(long, "a")
        await asyncio.sleep(0)
        queue.take(NotScored(sent[-1].number, "KeyError", False))
        with pytest.raises(UnservedError, match="engine_error"):
            await broken
        await asyncio.sleep(0)
        left = decode_list(sent[-1].lists[0]).items
        queue.take(Scored(sent[-1].number, (np.zeros(len(left), dtype=np.float32).tobytes(),)))
        assert queue.depth == 0, "what is left of it is not sent"

    asyncio.run(fill())


def test_a_list_is_expected_after_its_own_and_as_many_of_each_other_tenant() -> None:
    async def admit() -> None:
        queue = ScoringQueue(64)
        queue.connect(lambda message: None, in_flight=1)
        queue._pace.learn(1.0, PROMPT.tokens, 1)  # a second for each list
        for _ in range(20):
            queue.put(PROMPT, "many")
        queue.admit("few", 1, within_s=3 / 0.79)  # behind the one in flight, one of the other tenant, and itself
        for namespace, within_s in (("few", 2.5), ("many", 20.0)):
            with pytest.raises(UnservedError, match="queue_full"):
                queue.admit(namespace, 1, within_s)
        queue.admit("many", 1, within_s=21 / 0.79)

    asyncio.run(admit())


def test_time_is_to_spare_where_a_list_that_comes_meanwhile_is_admitted() -> None:
    async def spare() -> None:
        queue = ScoringQueue(64)
        queue.connect(lambda message: None, in_flight=1)
        assert queue.has_time_to_spare(1, within_s=0.1), "an idle engine of unknown pace is tried"
        queue._pace.learn(1.0, PROMPT.tokens, 1)  # a second for each list
        assert not queue.has_time_to_spare(1, within_s=2.0)
        assert queue.has_time_to_spare(1, within_s=2 / 0.79)
        queue.put(PROMPT, "tenant")
        queue.admit("tenant", 1, within_s=2 / 0.79)
        assert not queue.has_time_to_spare(1, within_s=100.0), "it is not idle"

    asyncio.run(spare())


def test_an_engine_that_says_what_it_should_not_is_found_out() -> None:
    async def lie() -> None:
        queue = ScoringQueue(2)
        queue.connect(lambda message: None, in_flight=2)
        queue.put(PROMPT, "shop")
        with pytest.raises(ProtocolError, match="which it was not given"):
            queue.take(Scored(9, (SCORES,)))
        with pytest.raises(ProtocolError, match="do not fit"):
            queue.take(Scored(1, (SCORES + SCORES,)))

    asyncio.run(lie())


def test_an_engine_that_always_fails_is_started_anew() -> None:
    async def fail() -> None:
        queue = ScoringQueue(2)
        queue.connect(lambda message: None, in_flight=1)
        for number in range(1, 5):
            failed = queue.put(PROMPT, "shop")
            queue.take(NotScored(number, "ValueError: it said something", False))
            with pytest.raises(UnservedError, match="engine_error"):
                failed.result()
        queue.put(PROMPT, "shop")
        with pytest.raises(ConnectionError, match=r"5 lists in a row failed, the last with ValueError$"):
            queue.take(NotScored(5, "ValueError: it said something", False))

    asyncio.run(fail())


def test_a_namespace_is_drained_when_none_of_its_lists_can_reach_the_engine() -> None:
    async def drain() -> None:
        queue = ScoringQueue(4)
        queue.connect(lambda message: None, in_flight=1)
        queue.put(PROMPT, "shop")
        waiting = queue.put(PROMPT, "shop")
        queue.put(PROMPT, "another")
        await asyncio.wait_for(queue.drain("nobody"), 1)
        drained = asyncio.create_task(queue.drain("shop"))
        for number in (1, 3, 2):  # in turns
            await asyncio.sleep(0.05)
            assert not drained.done()
            queue.take(Scored(number, (SCORES,)))
        await asyncio.wait_for(drained, 1)
        assert waiting.done()
        assert queue.depth == 0

    asyncio.run(drain())


def test_an_engine_that_gets_further_is_not_silent_and_has_time_by_its_pace() -> None:
    async def wait() -> None:
        queue = ScoringQueue(4)
        queue.connect(lambda message: None, in_flight=2)
        assert queue.silent_s == queue.expected_s == 0
        queue.put(PROMPT, "shop")
        assert queue.expected_s == PROMPT.tokens / 1000, "while nothing is known"
        await asyncio.sleep(0.05)
        assert queue.silent_s >= 0.05
        queue.progressed()
        assert queue.silent_s < 0.05
        queue.put(PROMPT, "shop")
        queue._pace.learn(3.0, PROMPT.tokens, 1)
        assert queue.expected_s == pytest.approx(6.0)

    asyncio.run(wait())
