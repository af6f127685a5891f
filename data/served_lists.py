"""Lists as they were served: what `reshelf serve --served_lists DIR` writes, for whoever asks later what came of them.

    key = read_key(Path("runs/served"))
    table = pq.read_table("runs/served", schema=SERVED_SCHEMA)
    pseudonym(key, "shop-a", "u1")                  # what stands for a shopper of shop-a

There is no text in it. Shoppers and queries are pseudonyms: BLAKE2b keyed with the file `_key` of the folder, apart for
each tenant. Who has the key and an id finds its rows; without the key nobody does.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa

from reshelf.errors import InputError

KEY_FILE = "_key"
"""Arrow and Spark pass over names that begin so when they read a folder."""
_KEY_BYTES = 32

SERVED_SCHEMA = pa.schema(
    [
        ("list_id", pa.string()),  # the reply's `id`
        ("time", pa.timestamp("us", tz="UTC")),
        ("tenant", pa.string()),
        ("user", pa.string()),  # pseudonym; null without a shopper
        ("query", pa.string()),  # pseudonym of `folded_query`; null without a query
        ("candidates", pa.list_(pa.string())),  # item ids in served order; the rest runs parallel to them
        ("positions", pa.list_(pa.int32())),  # places served, from 1
        ("first_stage", pa.list_(pa.int32())),  # places in the request, from 1
        ("scores", pa.list_(pa.float32())),  # log-odds of `model`; null in a fallback
        ("propensities", pa.list_(pa.float64())),  # probability of being served at its place, as far as known
        ("teams", pa.list_(pa.string())),  # arm whose pick it is; null where not interleaved
        ("shadow", pa.list_(pa.int32())),  # places in the order of `shadow_model`; null where it was not scored
        ("model", pa.string()),
        ("model_sha256", pa.string()),
        ("language", pa.string()),  # of the model's prompts
        ("personalization", pa.float64()),
        ("experiment", pa.string()),
        ("control", pa.string()),  # its first arm
        ("arm", pa.string()),  # null where interleaved, and outside an experiment
        ("arm_share", pa.float64()),  # share of shoppers meant for the arm
        ("shadow_model", pa.string()),
        ("fallback", pa.string()),  # why this is first-stage order; null where it is not
    ]
)
"""One row per list."""


def pseudonym(key: bytes, tenant: str, text: str) -> str:
    """32 hexadecimal digits that stand for a shopper's id or a query."""
    return blake2b(f"{tenant}\0{text}".encode(), key=key, digest_size=16).hexdigest()


def folded_query(query: str) -> str:
    """What is the same for queries that differ in case and spaces only.

    >>> folded_query("  Rain JACKET ")
    'rain jacket'
    """
    return " ".join(query.casefold().split())


def read_key(folder: Path) -> bytes:
    """The key of a folder's pseudonyms.

    Raises:
        InputError: it is not there, or none.
    """
    path = folder / KEY_FILE
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as the key of served lists ({error})") from error
    if len(key) != _KEY_BYTES:
        raise InputError(f"{path}: {len(key)} bytes; a key of served lists has {_KEY_BYTES}, as the server wrote it")
    return key


def make_key(folder: Path, key: bytes = b"") -> bytes:
    """The key of a folder, made where there is none yet; of servers that start at once, all have the same.

    Args:
        folder: of served lists.
        key: what to make there, of a folder that was there before; otherwise a new one.

    Raises:
        InputError: the folder cannot be written to, or the key is invalid.
    """
    path = folder / KEY_FILE
    partial = folder / f".{KEY_FILE}.{secrets.token_hex(6)}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            partial.touch(mode=0o600)
            partial.write_text((key or secrets.token_bytes(_KEY_BYTES)).hex(), encoding="ascii")
            try:
                os.link(partial, path)  # unlike a rename, not over another's
            except FileExistsError:
                pass
            finally:
                partial.unlink()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    return read_key(folder)
