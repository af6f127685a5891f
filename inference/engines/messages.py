"""What an engine's process is told and answers: a fixed schema in a stream, each message behind its size.

    Start(model, "vllm")              →   Ready("vllm", in_flight=64, takes_adapters=False), or NotStarted
    Score(7, (encode_list(prompt),))  →   Scored(7, (scores.tobytes(),)), or NotScored
    LoadAdapter("adapter1", folder)   →   AdapterLoaded("adapter1")
    Forget(1, "tenant")               →   Forgotten(1)

    socket.sendall(framed(message))
    for message in frames.feed(socket.recv(CHUNK)): ...      # frames = FrameReader(ToEngine)

Messages are MessagePack (https://msgpack.org), decoded by msgspec into the types below and nothing else: neither side
can make the other run anything. What does not fit the schema raises `ProtocolError`, which ends the connection. Arrays
are bytes of the one dtype that a field has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np

from reshelf.inference.engines.vllm_settings import VllmSettings
from reshelf.modeling.precision import Precision
from reshelf.prompts.list_prompt import ListPrompt, Truncated

CHUNK = 1 << 20
"""Bytes to take from a stream at once."""
LARGEST = 1 << 26
"""Bytes of one message at most: some sixteen million token ids."""
_SIZE = struct.Struct("!I")
_IDS, _SCORES = np.dtype("<i4"), np.dtype("<f4")


class ProtocolError(Exception):
    """The other side sent what is not a message, or not one that it may send now."""


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """One of those below; the first element of its array is its class."""


class EncodedList(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A list to score: token ids, int32, little-endian."""

    list_id: str
    prefix: bytes
    """int32 [P]"""
    items: bytes
    """int32, those of all candidates, one behind the other."""
    lengths: bytes
    """int32 [K], tokens of each candidate."""
    listed: int
    """Tokens at the prefix's end that are the list itself; 0 for independent candidates."""


class Start(Message, frozen=True):
    """The first message: which reranker, by which engine."""

    model: str
    """Reranker folder."""
    engine: Literal["auto", "transformers", "vllm"]
    device: str | None = None
    """Where the weights are loaded; None is the GPU if there is one."""
    vllm: VllmSettings | None = None
    """How vLLM runs; None takes adapters by request on a GPU and merges the one there is on a CPU."""
    nice: int = 0
    """Added to the process's niceness."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model may run."""
    precision: Precision = "auto"
    """In which numbers scores are computed."""


class StartExported(Message, frozen=True):
    """Instead of `Start`: vLLM over a checkpoint that `reshelf export` wrote, to be given text."""

    folder: str
    dtype: Literal["float32", "bfloat16"]
    longest: int
    """Tokens of the longest pair."""


class Score(Message, frozen=True):
    """Lists to score."""

    number: int
    lists: tuple[EncodedList, ...]
    namespace: str = ""
    """Prefixes are shared within it only."""
    adapter: str = ""
    """By which adapter; empty for the reranker's own."""


class ScorePairs(Message, frozen=True):
    """Pairs of texts to score, after `StartExported`."""

    number: int
    left: tuple[str, ...]
    right: tuple[str, ...]


class LoadAdapter(Message, frozen=True):
    """Another reranker over the same base, to score by its adapter."""

    adapter: str
    folder: str


class UnloadAdapter(Message, frozen=True):
    """No list will name this adapter any more. Has no answer."""

    adapter: str


class Forget(Message, frozen=True):
    """Drop everything kept of a namespace's prefixes."""

    number: int
    namespace: str


class Ready(Message, frozen=True):
    """The engine can score."""

    engine: Literal["transformers", "vllm"]
    in_flight: int
    """Lists it should be given at one time."""
    takes_adapters: bool
    precision: str = ""
    """In which numbers it computes."""


class NotStarted(Message, frozen=True):
    """The engine cannot score, and its process ends."""

    problem: str
    bad_input: bool
    """The user's mistake (`InputError`) rather than a failure."""


class Scored(Message, frozen=True):
    """Scores of the lists of one `Score`, or of the pairs of one `ScorePairs`, as one list."""

    number: int
    scores: tuple[bytes, ...]
    """float32 [K] of each list, little-endian."""
    ms: float = 0.0
    """Milliseconds the engine took."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Those of them whose keys and values were known."""


class Progress(Message, frozen=True):
    """It got further with the lists before it; an answer is still to come."""


class NotScored(Message, frozen=True):
    """What went wrong instead."""

    number: int
    problem: str
    bad_input: bool


class AdapterLoaded(Message, frozen=True):
    """An adapter can be scored by now; or not, for this reason."""

    adapter: str
    problem: str = ""


class Forgotten(Message, frozen=True):
    """Nothing of the namespace is kept."""

    number: int


ToEngine: TypeAlias = Start | StartExported | Score | ScorePairs | LoadAdapter | UnloadAdapter | Forget
FromEngine: TypeAlias = Ready | NotStarted | Progress | Scored | NotScored | AdapterLoaded | Forgotten
M = TypeVar("M")


def encode_list(prompt: Any) -> EncodedList:
    """A `ListPrompt` as it is sent."""
    return EncodedList(
        prompt.list_id,
        np.ascontiguousarray(prompt.prefix, _IDS).tobytes(),
        np.concatenate(prompt.items, dtype=_IDS).tobytes(),
        np.array([len(item) for item in prompt.items], _IDS).tobytes(),
        prompt.listed,
    )


def decode_list(sent: EncodedList) -> ListPrompt:
    """The `ListPrompt` that was sent, without what was truncated of it.

    Raises:
        ProtocolError: its arrays do not belong together.
    """
    try:
        prefix, items, lengths = (np.frombuffer(part, _IDS) for part in (sent.prefix, sent.items, sent.lengths))
    except ValueError as error:
        raise ProtocolError(f"list {sent.list_id!r}: {error}") from error
    ends = list(accumulate(lengths.tolist()))
    if not len(lengths) or lengths.min() < 1 or ends[-1] != len(items) or not 0 <= sent.listed <= len(prefix):
        raise ProtocolError(f"list {sent.list_id!r}: its lengths do not fit its token ids")
    parts = tuple([items[start:end] for start, end in zip([0, *ends], ends, strict=False)])
    return ListPrompt(sent.list_id, prefix, parts, Truncated(), sent.listed)


def decode_scores(sent: Scored, sizes: Sequence[int]) -> list[np.ndarray]:
    """float32 [K] per list.

    Args:
        sizes: K of each list that was to be scored.

    Raises:
        ProtocolError: they are not as many.
    """
    if [len(values) for values in sent.scores] != [_SCORES.itemsize * size for size in sizes]:
        raise ProtocolError(f"scores of {len(sent.scores)} lists do not fit the {len(sizes)} that were sent")
    return [np.frombuffer(values, _SCORES) for values in sent.scores]


_encoder = msgspec.msgpack.Encoder()


def framed(message: Message) -> bytes:
    """A message as it stands in the stream.

    Raises:
        ProtocolError: it is larger than the other side would take.
    """
    data = _encoder.encode(message)
    if len(data) > LARGEST:
        raise ProtocolError(f"a message of {len(data)} bytes; at most {LARGEST} are allowed")
    return _SIZE.pack(len(data)) + data


class FrameReader(Generic[M]):
    """Messages out of a stream, which may come in any pieces.

    Args:
        kind: `ToEngine` or `FromEngine`.
    """

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kind)
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """The messages that are whole with the stream's next bytes.

        Raises:
            ProtocolError: they are not messages of this kind.
        """
        self._data += data
        while len(self._data) >= _SIZE.size:
            (size,) = _SIZE.unpack_from(self._data)
            if size > LARGEST:
                raise ProtocolError(f"a message of {size} bytes; at most {LARGEST} are allowed")
            end = _SIZE.size + size
            if len(self._data) < end:
                break
            message = bytes(memoryview(self._data)[_SIZE.size : end])
            del self._data[:end]
            try:
                yield self._decoder.decode(message)
            except (msgspec.MsgspecError, RecursionError) as error:
                raise ProtocolError(f"not a message: {error}") from None
