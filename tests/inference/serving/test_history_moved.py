"""A history file that is moved or removed under the server takes no more events, and takes them when it is back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reshelf.inference.serving.history import HistoryStore, StoreError
from tests.inference.serving.test_history import click, ids, use


@pytest.mark.parametrize("removed", [False, True])
def test_no_event_is_acknowledged_into_a_file_that_is_gone_from_its_place(tmp_path: Path, removed: bool) -> None:
    """Moved for rotation, or with its folder, or removed: such events were gone with the next start."""
    folder, aside = tmp_path / "shop", tmp_path / "aside"
    folder.mkdir()

    async def work(store: HistoryStore) -> None:
        await store.append("t", [click(1)])
        shutil.rmtree(folder) if removed else folder.rename(aside)
        for call in (store.append("t", [click(2)]), store.forget("t", "u")):
            with pytest.raises(StoreError, match=r"history\.sqlite: it was moved or removed .*; put it back, or"):
                await call
        if not removed:
            aside.rename(folder)
            assert await store.append("t", [click(2)]) == 1

    use(str(folder / "history.sqlite"), work)
    if not removed:
        assert ids(use(str(folder / "history.sqlite"), lambda store: store.read("t", "u"))) == ["p1", "p2"]
