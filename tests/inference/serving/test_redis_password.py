"""The password of Redis comes from a file, is in no message, and reaches a real Redis."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from reshelf.errors import InputError
from reshelf.inference.serving.history import StoreError, open_store


@pytest.mark.parametrize(
    "address",
    [
        "redis://:se/cret@127.0.0.1:6379/0", "redis://:secret@127.0.0.1:6379/0", "redis://user:secret@127.0.0.1/0",
        "rediss://127.0.0.1/0?password=secret", "redis://127.0.0.1:secret/0",
    ],
)  # fmt: skip
def test_a_password_is_read_from_a_file_and_said_nowhere(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="history") as refused:
        asyncio.run(open_store(address, 5))
    assert "cret" not in str(refused.value)
    (tmp_path / "empty").write_text("\n")
    for path in (tmp_path / "secret", tmp_path / "empty"):
        with pytest.raises(InputError, match="redis_password_file") as refused:
            asyncio.run(open_store("redis://user@127.0.0.1:9/0", 5, None, path))
        assert "secret" not in str(refused.value)


def test_the_user_of_an_address_and_the_password_of_a_file_are_those_of_redis(redis_port: int, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("päss word\n")
    command = ["redis-cli", "-p", str(redis_port), "ACL", "SETUSER", "shop:1", "on", ">päss word", "~*", "+@all"]
    subprocess.run(command, check=True, capture_output=True)

    async def read() -> None:
        store = await open_store(f"redis://shop%3A1@127.0.0.1:{redis_port}/2", 5, None, password)
        assert (await store.read("t", "u")).events == ()
        await store.close()

    asyncio.run(read())
    password.write_text("secret")
    with pytest.raises(StoreError) as refused:
        asyncio.run(read())
    assert "secret" not in str(refused.value)
