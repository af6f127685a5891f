"""What an engine's process and its user say to each other arrives as it was said, in whatever pieces it comes; and what
is not a message ends the connection, and runs nothing."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.inference.engines.messages import (
    LARGEST,
    EncodedList,
    Forget,
    FrameReader,
    FromEngine,
    LoadAdapter,
    ProtocolError,
    Ready,
    Score,
    Scored,
    Start,
    ToEngine,
    decode_list,
    decode_scores,
    encode_list,
    framed,
)
from reshelf.inference.engines.vllm_settings import VllmSettings
from reshelf.prompts.list_prompt import ListPrompt, Truncated

IDS = np.arange(7, dtype=np.int32)
PROMPT = ListPrompt("l", IDS[:3], (IDS[3:4], IDS[4:6], IDS[6:7]), Truncated(1, 2, 3), 2)
SCORES = np.array([0.5, -1.25], dtype="<f4")


def any_of(kinds: Any) -> Any:
    """Messages of a union, any values that their types allow."""
    return st.one_of([st.from_type(kind) for kind in get_args(kinds)])


def read(kind: Any, stream: bytes, sizes: list[int] | None = None) -> list[Any]:
    frames: FrameReader[Any] = FrameReader(kind)
    found: list[Any] = []
    at = turn = 0
    while at < len(stream):
        size = len(stream) if sizes is None else sizes[turn % len(sizes)]
        found += frames.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    return found


st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))


@pytest.mark.parametrize("kinds", [ToEngine, FromEngine])
@given(data=st.data())
def test_any_messages_come_in_any_pieces(kinds: Any, data: st.DataObject) -> None:
    messages = data.draw(st.lists(any_of(kinds), max_size=5))
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=20))
    assert read(kinds, b"".join(map(framed, messages)), sizes) == messages


@given(data=st.data())
def test_any_list_arrives_whole(data: st.DataObject) -> None:
    ids = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9).map(lambda v: np.array(v, np.int32))
    prefix, items = data.draw(ids), data.draw(st.lists(ids, min_size=1, max_size=6))
    listed = data.draw(st.integers(0, len(prefix)))
    sent = ListPrompt(data.draw(st.text(max_size=9)), prefix, tuple(items), Truncated(), listed)
    (message,) = read(ToEngine, framed(Score(7, (encode_list(sent),), "shop", "adapter1")))
    found = decode_list(message.lists[0])
    assert (found.list_id, found.listed, found.tokens) == (sent.list_id, listed, sent.tokens)
    for one, other in zip((found.prefix, *found.items), (sent.prefix, *sent.items), strict=True):
        assert one.dtype == np.int32
        assert one.tolist() == other.tolist()


def test_scores_arrive_whole() -> None:
    (message,) = read(FromEngine, framed(Scored(7, (SCORES.tobytes(), SCORES[:1].tobytes()), ms=2.5)))
    first, second = decode_scores(message, [2, 1])
    assert first.dtype == np.float32
    assert (first.tolist(), second.tolist()) == (SCORES.tolist(), SCORES[:1].tolist())
    for sizes in ([2], [2, 2], [1, 2], [2, 1, 1]):
        with pytest.raises(ProtocolError, match="do not fit"):
            decode_scores(message, sizes)


@pytest.mark.parametrize(
    ("prefix", "items", "lengths", "listed"),
    [
        (3, b"", b"", 0),
        (3, IDS.tobytes(), IDS[:1].tobytes(), 0),
        (3, IDS.tobytes(), np.array([8], np.int32).tobytes(), 0),
        (3, IDS.tobytes(), np.array([8, -1], np.int32).tobytes(), 0),
        (3, IDS.tobytes(), np.array([7, 0], np.int32).tobytes(), 0),
        (3, IDS.tobytes()[:-1], np.array([7], np.int32).tobytes(), 0),
        (3, IDS.tobytes(), np.array([7], np.int32).tobytes(), 4),
        (3, IDS.tobytes(), np.array([7], np.int32).tobytes(), -1),
    ],
)
def test_arrays_that_do_not_belong_together(prefix: int, items: bytes, lengths: bytes, listed: int) -> None:
    with pytest.raises(ProtocolError, match="list 'l'"):
        decode_list(EncodedList("l", IDS[:prefix].tobytes(), items, lengths, listed))


class Runs:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def in_frame(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


def test_hostile_bytes_end_the_connection_and_run_nothing(tmp_path: Path) -> None:
    encode = msgspec.msgpack.encode
    for data in (
        b"",
        b"\x00",
        pickle.dumps(Runs(tmp_path / "ran")),
        encode({"type": "Score", "number": 1}),
        encode(["Scored", 1, [b""]]),
        encode(["Nothing", 1]),
        encode(["Forget", "1", "shop"]),
        encode(["Forget", 1]),
        encode(["Forget", 1, "shop", "more"]),
        encode(["Score", 1, [["l", "text", b"", b"", 0]]]),
        encode(["Start", "folder", "another engine"]),
        encode(msgspec.msgpack.Ext(1, b"code")),
        b"\x91" * 100_000,
        framed(Forget(1, "shop"))[4:-1],
    ):
        with pytest.raises(ProtocolError, match="not a message"):
            read(ToEngine, in_frame(data))
    with pytest.raises(ProtocolError, match="at most"):
        read(ToEngine, struct.pack("!I", LARGEST + 1))
    assert not (tmp_path / "ran").exists()


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    for kinds in (ToEngine, FromEngine):
        try:
            found = read(kinds, in_frame(data))
        except ProtocolError:
            continue
        assert all(isinstance(one, get_args(kinds)) for one in found)


def test_a_message_that_would_be_refused_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        framed(LoadAdapter("adapter1", "x" * (LARGEST + 1)))


def test_settings_are_sent_whole() -> None:
    start = Start("runs/model", "vllm", "cuda:1", VllmSettings(lora="by_request", cache_gib=0.5), 5, True)
    assert read(ToEngine, framed(start)) == [start]
    assert read(FromEngine, framed(Ready("vllm", 64, True))) == [Ready("vllm", 64, True)]
