"""The lists in front of an engine: which are let in, which are in flight, and how fast they come back.

    queue = ScoringQueue(capacity=64)
    queue.connect(send, in_flight=2)
    queue.admit("tenant", 100, within_s=0.2)   # raises UnservedError where it would take longer
    scored = await queue.put(prompt, "tenant")

Tenants' lists are sent in turns (`fair_queue`). One that would hold the engine for long is sent in pieces, groups of
candidates behind the same prefix, each a turn of its own.

Under more load than the engine can take, a list that would only be reached after its deadline is refused at once
(`admit`): the engine's time goes to lists that somebody still waits for.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.inference.engines.messages import (
    NotScored,
    ProtocolError,
    Score,
    Scored,
    ToEngine,
    decode_scores,
    encode_list,
)
from reshelf.inference.serving.engine.fair_queue import FairQueue
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.prompts.list_prompt import ListPrompt

_ERRORS = 5
"""So many lists in a row that the engine could not score: it is started anew."""
_MEMORY = 0.95
"""What the engine's pace a list ago still counts now."""
_CARE = 0.8
"""Share of the time left in which the engine is expected to be done: lists before this one may take longer."""
_SLOW = 1000
"""Tokens a second of an engine that is hardly worth serving with."""
_DRAIN_S = 0.01
_TURN_S = 0.1
"""What a list may take of the engine in one turn, by the engine's pace."""
_PIECE = 1024
"""Tokens of candidates in the smallest piece of a list: engines are slow at fewer."""


class UnservedError(Exception):
    """The engine will not score this list now; the first argument is the reason in one word."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class ListScores:
    """What came of one list."""

    scores: np.ndarray
    """float32 [K]"""
    ms: float
    """Milliseconds the engine took."""
    prompt_tokens: int
    cached_tokens: int
    """Those of them whose keys and values were known."""


@dataclass(frozen=True, eq=False)
class _Entry:
    """A list or a piece of one, and who waits for its scores."""

    number: int
    prompt: ListPrompt
    namespace: str
    adapter: str
    future: asyncio.Future[ListScores]


class Pace:
    """How fast an engine goes through tokens while it has work: time over tokens, older lists counting ever less."""

    def __init__(self) -> None:
        self._busy_s, self._tokens, self._candidates = 0.0, 0.0, 0.0

    def learn(self, seconds: float, tokens: int, candidates: int) -> None:
        """A list came back `seconds` after the one before, or after it was sent to an idle engine."""
        self._busy_s = _MEMORY * self._busy_s + seconds
        self._tokens = _MEMORY * self._tokens + tokens
        self._candidates = _MEMORY * self._candidates + candidates

    def tokens(self, candidates: int) -> float:
        """Expected of a list; 0 while nothing is known."""
        return self._tokens * candidates / self._candidates if self._candidates else 0.0

    def seconds(self, tokens: float) -> float:
        """Expected for lists of `tokens` in all; 0 while nothing is known."""
        return self._busy_s * tokens / self._tokens if self._tokens else 0.0

    def pieces(self, prompt: ListPrompt) -> list[ListPrompt]:
        """The list, or groups of its candidates of about equal size, of a turn each or of the smallest piece's size."""
        turns = min(self.seconds(prompt.tokens) / _TURN_S, (prompt.tokens - len(prompt.prefix)) / _PIECE)
        return prompt.parts(max(1, math.ceil(turns)))


class ScoringQueue:
    """Waiting and in-flight lists of one engine.

    Args:
        capacity: lists that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: FairQueue[_Entry] = FairQueue()
        self._in_flight: dict[int, _Entry] = {}
        self._send: Callable[[ToEngine], None] | None = None
        self._most_in_flight = 0
        self._pace = Pace()
        self._numbers = 0
        self._errors = 0
        self._heard = self._progressed = 0.0

    @property
    def depth(self) -> int:
        """Lists that wait or are being scored."""
        return sum(not entry.future.done() for entry in self._waiting) + len(self._in_flight)

    @property
    def silent_s(self) -> float:
        """Seconds since the engine last got further, while it has lists to score; 0 where it has none."""
        since = max(self._heard, self._progressed)
        return asyncio.get_running_loop().time() - since if self._in_flight else 0.0

    @property
    def expected_s(self) -> float:
        """Seconds that the lists in flight take by the engine's pace, or by a slow one's while that is not known."""
        tokens = sum(entry.prompt.tokens for entry in self._in_flight.values())
        return self._pace.seconds(tokens) or tokens / _SLOW

    def progressed(self) -> None:
        """The engine got further with what is in flight."""
        self._progressed = asyncio.get_running_loop().time()

    def connect(self, send: Callable[[ToEngine], None], in_flight: int) -> None:
        """An engine is ready.

        Args:
            send: gives it a message.
            in_flight: lists it is given at one time.
        """
        self._send, self._most_in_flight, self._pace, self._errors = send, in_flight, Pace(), 0

    def disconnect(self) -> None:
        """There is no engine: every list is refused, and so are those that come."""
        self._send = None
        for entry in [*self._in_flight.values(), *self._waiting]:
            _fail(entry, "engine_down")
        self._in_flight.clear()
        self._waiting.clear()

    def admit(self, namespace: str, candidates: int, within_s: float) -> None:
        """Whether it is worth writing a list and waiting for its scores for so many seconds.

        Raises:
            UnservedError: engine_down; queue_full, where it and the lists before it will take longer.
        """
        if self._send is None:
            raise UnservedError("engine_down")
        waiting: Counter[str] = Counter()
        for entry in self._waiting:
            if not entry.future.done():
                waiting[entry.namespace] += entry.prompt.tokens
        if not waiting and not self._in_flight:
            return  # an idle engine is always tried: what is known of its pace may be old
        # In turns, no other tenant's lists take more of the time before this one is done than this tenant's own.
        own = waiting[namespace] + self._pace.tokens(candidates)
        before: float = sum(entry.prompt.tokens for entry in self._in_flight.values())
        before += sum(min(tokens, own) for who, tokens in waiting.items() if who != namespace)
        if within_s > 0 and not self._in_time(before + own, within_s):
            raise UnservedError("queue_full")

    def has_time_to_spare(self, candidates: int, within_s: float) -> bool:
        """Whether the engine is idle, and a list that came while it scored one of as many candidates would be admitted
        still, to have its scores within so many seconds."""
        return not self.depth and self._in_time(2 * self._pace.tokens(candidates), within_s)

    def _in_time(self, tokens: float, within_s: float) -> bool:
        """Whether the engine is expected to be done with lists of so many tokens early enough to admit them."""
        return self._pace.seconds(tokens) <= _CARE * within_s

    def put(self, prompt: ListPrompt, namespace: str, adapter: str = "") -> asyncio.Future[ListScores]:
        """Scores of one list, on their way. A caller that stops waiting takes its list out of the queue.

        Raises:
            UnservedError: engine_down, queue_full, or engine_error.
        """
        if self._send is None:
            raise UnservedError("engine_down")
        self._make_room(namespace)
        futures: list[asyncio.Future[ListScores]] = []
        for piece in self._pace.pieces(prompt):
            self._numbers += 1
            futures.append(asyncio.get_running_loop().create_future())
            entry = _Entry(self._numbers, piece, namespace, adapter, futures[-1])
            self._waiting.put(namespace, entry, piece.tokens)
        self._send_waiting()
        return futures[0] if len(futures) == 1 else asyncio.ensure_future(_together(prompt, futures))

    def _make_room(self, namespace: str) -> None:
        """Where as many lists wait as may, the tenant with most of them gives up its latest one.

        Raises:
            UnservedError: queue_full, where that would be this tenant.
        """
        waiting = [entry for entry in self._waiting if not entry.future.done()]
        if len(waiting) < self._capacity:
            return
        counts = Counter(entry.namespace for entry in waiting)
        longest, most = counts.most_common(1)[0]
        if counts[namespace] + 1 > most - 1:
            raise UnservedError("queue_full")
        _fail(next(entry for entry in reversed(waiting) if entry.namespace == longest), "queue_full")

    async def drain(self, namespace: str) -> None:
        """Wait until none of the lists of a namespace that are here now can reach the engine any more."""
        entries = [e for e in (*self._waiting, *self._in_flight.values()) if e.namespace == namespace]
        while any(e.number in self._in_flight or (e in self._waiting and not e.future.done()) for e in entries):
            await asyncio.sleep(_DRAIN_S)

    def take(self, reply: Scored | NotScored) -> None:
        """What the engine says of a list in flight.

        Raises:
            ProtocolError: it has no such list, or gave it another number of scores than it has candidates.
            ConnectionError: it failed too often.
        """
        entry = self._in_flight.pop(reply.number, None)
        if entry is None:
            raise ProtocolError(f"the engine scored list {reply.number}, which it was not given")
        now = asyncio.get_running_loop().time()
        self._pace.learn(now - self._heard, entry.prompt.tokens, len(entry.prompt.items))
        self._heard = now
        if isinstance(reply, Scored):
            self._errors = 0
            (scores,) = decode_scores(reply, [len(entry.prompt.items)])
            if not entry.future.done():
                entry.future.set_result(ListScores(scores, reply.ms, reply.prompt_tokens, reply.cached_tokens))
        else:
            self._errors += 1
            error = reply.problem.partition(":")[0]
            log_once_a_minute("engine error", error=error)
            _fail(entry, "engine_error")
            if self._errors >= _ERRORS:
                raise ConnectionError(f"{_ERRORS} lists in a row failed, the last with {error}")
        self._send_waiting()

    def _send_waiting(self) -> None:
        """As many lists as the engine takes at one time."""
        while self._send is not None and len(self._in_flight) < self._most_in_flight:
            entry = self._waiting.take()
            if entry is None:
                return
            if entry.future.done():  # nobody waits for it any more
                continue
            if not self._in_flight:
                self._heard = asyncio.get_running_loop().time()
            self._in_flight[entry.number] = entry
            self._send(Score(entry.number, (encode_list(entry.prompt),), entry.namespace, entry.adapter))


async def _together(prompt: ListPrompt, futures: Sequence[asyncio.Future[ListScores]]) -> ListScores:
    """What came of a list's pieces; where one is not scored, or nobody waits any more, none is."""
    try:
        found = await asyncio.gather(*futures)
    finally:
        for future in futures:
            future.cancel()
    scores, ms = np.concatenate([one.scores for one in found]), sum(one.ms for one in found)
    return ListScores(scores, ms, prompt.tokens, found[0].cached_tokens)


def _fail(entry: _Entry, reason: str) -> None:
    if not entry.future.done():
        entry.future.set_exception(UnservedError(reason))
        entry.future.exception()  # seen, should its caller be gone
