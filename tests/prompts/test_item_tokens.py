"""One file of token ids per catalogue: made once, read without copying, and never believed when it is stale."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from reshelf.data.schema import Event, Item, RankingList
from reshelf.errors import InputError
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.prompts import item_tokens as module
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import FIELDS, PromptConfig
from reshelf.prompts.fields import field_text
from reshelf.prompts.item_tokens import ItemTokens, build_item_tokens, catalogue_tokens, item_fingerprint
from reshelf.prompts.items import ItemWriter
from reshelf.prompts.tokens import Encoder

Clicks = Callable[[Sequence[str]], tuple[Event, ...]]
CONFIG = PromptConfig(template="plain", item_tokens=20, event_tokens=16)
CHANGES: list[dict[str, Any]] = [
    *({"title": "red oak table"}, {"brand": None}, {"price": 130.0}, {"currency": "USD"}, {"price_level": 3}),
    *({"rating": 4.75}, {"rating_count": 13}, {"category": ("Home",)}, {"description": "A chair."}),
    *({"attributes": {"material": "oak", "colour": "red"}}, {"attributes": {"colour": "red"}}),
]


def many(count: int) -> list[Item]:
    words = ("red", "oak", "chair", "large", "椅子", "new", "Nordvik")
    return [
        Item(
            item_id=f"p{n}",
            title=" ".join(words[(n * 7 + k * k) % len(words)] for k in range(3 + n % 9)) + f" {n}",
            brand="Nordvik" if n % 3 else None,
            price=n % 97 + 0.5,
        )
        for n in range(count)
    ]


def made(path: Path) -> int:
    """Which file it is: another one after it was made anew."""
    return path.stat().st_ino


def same(tokens: ItemTokens, items: Sequence[Item], tokenizer: Any, config: PromptConfig = CONFIG) -> bool:
    """Whether the file holds what tokenising one item at a time gives."""
    writer = ItemWriter(tokenizer, config)
    for row, item in zip(tokens.rows(items).tolist(), items, strict=True):
        if row < 0:
            return False
        found, (expected,) = tokens[row], writer.write([item])
        if (found.lost, found.event_lost) != (expected.lost, expected.event_lost):
            return False
        pairs = [(getattr(found, name), getattr(expected, name)) for name in ("tokens", "event", "event_sizes")]
        if not all(a.dtype == b.dtype == np.int32 and np.array_equal(a, b) for a, b in pairs):
            return False
    return True


@pytest.mark.parametrize("count", [0, 1, 1000, 2345])
def test_the_file_holds_every_item(count: int, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tokens.arrow"
    items = many(count)
    tokens = catalogue_tokens(path, bytes_tokenizer, CONFIG, iter(items))
    assert len(tokens) == count
    assert same(tokens, items, bytes_tokenizer)
    assert os.listdir(path.parent) == ["tokens.arrow"]


def test_any_arrow_reader_opens_it(bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    items = many(50)
    build_item_tokens(tmp_path / "tokens.arrow", bytes_tokenizer, CONFIG, items)
    table = pa.feather.read_table(tmp_path / "tokens.arrow")
    writer = ItemWriter(bytes_tokenizer, CONFIG)
    expected = {item.item_id: writer.write([item])[0] for item in items}
    rows = table.to_pylist()
    assert {row["item_id"]: (row["tokens"], row["lost"]) for row in rows} == {
        name: (one.tokens.tolist(), one.lost) for name, one in expected.items()
    }
    assert any(row["lost"] for row in rows)
    assert any(row["event_lost"] for row in rows)


def test_nothing_is_copied(bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = tmp_path / "tokens.arrow"
    items = many(300)
    before = pa.total_allocated_bytes()
    tokens = catalogue_tokens(path, bytes_tokenizer, CONFIG, items)
    assert pa.total_allocated_bytes() == before
    with open("/proc/self/maps", encoding="utf-8") as maps:
        (line,) = [line for line in maps if line.rstrip().endswith(str(path))]
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    builder = PromptBuilder(bytes_tokenizer, CONFIG, {i.item_id: i for i in items}, item_tokens=tokens)
    found, _ = builder._candidates(RankingList(list_id="l", user_id="u", candidates=("p3", "p200")))
    for array in [*found, tokens[0].event, tokens[0].event_sizes]:
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert start <= array.__array_interface__["data"][0] < end


class TestStale:
    def test_the_same_again_is_not_made_anew(self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        path = tmp_path / "tokens.arrow"
        items = many(30)
        catalogue_tokens(path, bytes_tokenizer, CONFIG, items)
        first = made(path)
        # A part of the catalogue, another order, another budget of something else, and padding asked for elsewhere.
        bytes_tokenizer(["oak", "red oak chair"], padding=True)
        other = PromptConfig(template="plain", item_tokens=20, event_tokens=16, history_tokens=99, features=["f"])
        assert same(catalogue_tokens(path, bytes_tokenizer, other, items[20:3:-1]), items, bytes_tokenizer)
        assert made(path) == first

    @pytest.mark.parametrize("change", CHANGES, ids=str)
    def test_a_changed_item(
        self,
        change: dict[str, Any],
        bytes_tokenizer: PreTrainedTokenizerFast,
        items: dict[str, Item],
        clicks: Clicks,
        tmp_path: Path,
    ) -> None:
        path = tmp_path / "tokens.arrow"
        config = PromptConfig(template="plain", item_tokens=400, event_tokens=400, event_fields=list(FIELDS))
        old = catalogue_tokens(path, bytes_tokenizer, config, items.values())
        first = made(path)
        now = items | {"chair": items["chair"].model_copy(update=change)}
        # A builder that still holds the old file writes the item as it is now.
        ranking = RankingList(list_id="l", user_id="u", candidates=("chair", "oak"), history=clicks(["chair", "oak"]))
        expected = PromptBuilder(bytes_tokenizer, config, now).build(ranking)
        before = PromptBuilder(bytes_tokenizer, config, items).build(ranking)
        found = PromptBuilder(bytes_tokenizer, config, now, item_tokens=old).build(ranking)
        assert found.items[0].tolist() == expected.items[0].tolist() != before.items[0].tolist()
        assert found.prefix.tolist() == expected.prefix.tolist() != before.prefix.tolist()
        # And whoever opens it for the catalogue of now makes it anew; what was mapped before stays readable.
        assert same(
            catalogue_tokens(path, bytes_tokenizer, config, now.values()), [*now.values()], bytes_tokenizer, config
        )
        assert made(path) != first
        assert same(old, [*items.values()], bytes_tokenizer, config)

    @pytest.mark.parametrize(
        "change",
        [
            *({"template": "qwen3"}, {"language": "zh"}, {"item_tokens": 21}, {"event_tokens": 17}),
            *({"fields": ["title"]}, {"event_fields": ["title"]}, {"event_fields": ["brand", "title", "price"]}),
        ],
        ids=str,
    )
    def test_another_prompt(
        self, change: dict[str, Any], bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        path = tmp_path / "tokens.arrow"
        items = many(30)
        stale = catalogue_tokens(path, bytes_tokenizer, CONFIG, items)
        first = made(path)
        other = PromptConfig(**{"template": "plain", "item_tokens": 20, "event_tokens": 16} | change)
        with pytest.raises(InputError, match=r"tokens\.arrow was made with another tokenizer, template, budget"):
            PromptBuilder(bytes_tokenizer, other, {}, item_tokens=stale)
        fresh = catalogue_tokens(path, bytes_tokenizer, other, items)
        assert made(path) != first
        assert same(fresh, items, bytes_tokenizer, other)

    def test_another_tokenizer(
        self, bytes_tokenizer: PreTrainedTokenizerFast, plain_added: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        path = tmp_path / "tokens.arrow"
        items = many(30)
        catalogue_tokens(path, bytes_tokenizer, CONFIG, items)
        smaller = train_tokenizer([item.title for item in items] * 5, 400)
        for tokenizer in (smaller, plain_added):
            first = made(path)
            assert same(catalogue_tokens(path, tokenizer, CONFIG, items), items, tokenizer)
            assert made(path) != first

    def test_another_special_token(self, bytes_tokenizer: PreTrainedTokenizerFast) -> None:
        """The same backend, but another notion of what is a control token."""
        backend = bytes_tokenizer.backend_tokenizer
        both = [PreTrainedTokenizerFast(tokenizer_object=backend, **more) for more in ({}, {"unk_token": "<think>"})]
        assert len({tokenizer.backend_tokenizer.to_str() for tokenizer in both}) == 1
        assert len({Encoder(tokenizer).control_ids for tokenizer in both}) == 2
        assert len({item_fingerprint(tokenizer, CONFIG) for tokenizer in both}) == 2

    def test_other_code(
        self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "tokens.arrow"
        catalogue_tokens(path, bytes_tokenizer, CONFIG, many(3))
        first = made(path)
        monkeypatch.setattr(module, "_SOURCES", module._SOURCES[1:])
        catalogue_tokens(path, bytes_tokenizer, CONFIG, many(3))
        assert made(path) != first

    def test_the_sources_are_all_the_code_an_item_goes_through(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
    ) -> None:
        seen = set()
        folder = Path(module.__file__).parent

        def trace(frame: Any, event: str, argument: Any) -> None:
            file = Path(frame.f_code.co_filename)
            if file.parent == folder:
                seen.add(file.name)

        before = sys.getprofile()
        sys.setprofile(trace)
        try:
            module._Chunks(bytes_tokenizer, CONFIG)(list(items.values()))
        finally:
            sys.setprofile(before)
        assert seen == set(module._SOURCES)


@settings(max_examples=300)
@given(data=st.data(), names=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3, unique=True))
def test_items_of_the_same_digest_have_the_same_text(data: st.DataObject, names: list[str]) -> None:
    """Values that read alike when they are written one after the other are told apart."""
    text = st.text("ab'\", ()[]", min_size=1, max_size=4)
    maybe = st.none() | text
    one = st.builds(
        Item, item_id=text, title=text, brand=maybe, currency=maybe, description=maybe, image=maybe,
        price=st.none() | st.sampled_from([1.0, 12.0]), price_level=st.none() | st.integers(1, 2),
        rating=st.none() | st.sampled_from([1.0, 2.0]), rating_count=st.none() | st.integers(0, 2),
        category=st.lists(text, max_size=3).map(tuple), attributes=st.dictionaries(text, text, max_size=3),
    )  # fmt: skip
    a = data.draw(one)
    b = (
        a.model_copy(update=data.draw(st.sampled_from([{}, {"item_id": "z", "image": "z"}])))
        if data.draw(st.booleans())
        else data.draw(one)
    )
    values = module._content(names)
    first, second = (module._digests([item], values)[0] for item in (a, b))
    texts = [[field_text(item, name) for name in names] for item in (a, b)]
    if texts[0] != texts[1]:
        assert first != second
    if a.model_copy(update={"item_id": b.item_id, "image": b.image}) == b and [*a.attributes] == [*b.attributes]:
        assert first == second


class TestBroken:
    def test_a_file_that_is_cut_short(self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        path = tmp_path / "tokens.arrow"
        catalogue_tokens(path, bytes_tokenizer, CONFIG, many(100))
        whole = path.read_bytes()
        for size in [0, 1, 5, 8, 100, 1000, len(whole) // 2, len(whole) - 8, len(whole) - 1]:
            path.write_bytes(whole[:size])
            with pytest.raises(InputError, match=r"tokens\.arrow is not a whole file of item tokens: .*; remove it"):
                catalogue_tokens(path, bytes_tokenizer, CONFIG, many(100))
            assert path.read_bytes() == whole[:size], "what a user may have put there is never overwritten"

    def test_offsets_that_point_outside(self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        path = tmp_path / "tokens.arrow"
        tokens = catalogue_tokens(path, bytes_tokenizer, CONFIG, many(10))
        ends = np.asarray(tokens._token_ends).tobytes()
        broken = np.asarray(tokens._token_ends).copy()
        broken[5] = 10**9
        raw = path.read_bytes()
        assert raw.count(ends) == 1
        path.write_bytes(raw.replace(ends, broken.tobytes()))
        with pytest.raises(InputError, match="is not a whole file of item tokens"):
            ItemTokens.open(path)

    def test_something_else(self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        table = pa.table({"item_id": ["a"]})
        about = {b"reshelf.item_tokens": json.dumps({"fingerprint": "x"})}
        pa.feather.write_feather(table, str(tmp_path / "plain.arrow"), compression="uncompressed")
        pa.feather.write_feather(table.replace_schema_metadata(about), str(tmp_path / "half.arrow"))
        (tmp_path / "text.arrow").write_text("item tokens\n" * 99, encoding="utf-8")
        for name in ("plain", "half", "text"):
            path = tmp_path / f"{name}.arrow"
            before = path.read_bytes()
            with pytest.raises(InputError, match=rf"{name}\.arrow is not a whole file of item tokens"):
                catalogue_tokens(path, bytes_tokenizer, CONFIG, many(3))
            assert path.read_bytes() == before

    def test_a_folder_and_no_file(self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not there; make it with"):
            ItemTokens.open(tmp_path / "none.arrow")
        with pytest.raises(InputError, match="is a folder; name a file in it"):
            catalogue_tokens(tmp_path, bytes_tokenizer, CONFIG, many(3))
        blocked = tmp_path / "file"
        blocked.touch()
        with pytest.raises(InputError, match="cannot write"):
            catalogue_tokens(blocked / "tokens.arrow", bytes_tokenizer, CONFIG, many(3))


RACE = """
import sys
from pathlib import Path
from transformers import AutoTokenizer
from reshelf.data.schema import Item
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.item_tokens import ItemTokens, _Chunks, _write_file, build_item_tokens

path, count, rounds = Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
config = PromptConfig(template="plain", item_tokens=20, event_tokens=16)
items = [Item(item_id=f"p{n}", title=f"red oak chair {n}") for n in range(count)]
print("ready", flush=True)
sys.stdin.readline()
build_item_tokens(path, tokenizer, config, items)
# Now only the writing, over and over.
rows = [_Chunks(tokenizer, config)(items)] * 20
for _ in range(rounds):
    _write_file(path, rows, {"fingerprint": "x", "fields": ["title"]})
    tokens = ItemTokens.open(path)
    assert len(tokens) in (700, 900, 14000, 18000), len(tokens)
print("done", flush=True)
"""
UNGUARDED = """
import sys
from pathlib import Path
from transformers import AutoTokenizer
from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.prompts import item_tokens
from reshelf.prompts.config import PromptConfig

item_tokens._SMALL = 1
items = [Item(item_id=f"p{n}", title=f"red oak chair {n}") for n in range(3)]
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
try:
    item_tokens.catalogue_tokens(Path(sys.argv[1]), tokenizer, PromptConfig(), items, workers=2)
except InputError as error:
    print("SAYS", error)
"""


class TestProcesses:
    def test_workers_write_the_same_file(
        self, plain_added: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_SMALL", 100)
        items = many(9500)
        for workers in (1, 2):
            build_item_tokens(tmp_path / f"{workers}.arrow", plain_added, CONFIG, items, workers)
        assert not hasattr(module, "_of_this_process"), "the work was done elsewhere"
        assert (tmp_path / "1.arrow").read_bytes() == (tmp_path / "2.arrow").read_bytes()

    def test_every_kind_of_tokenizer_can_be_sent(self, tokenizer: PreTrainedTokenizerFast) -> None:
        sent = pickle.loads(pickle.dumps(tokenizer))
        assert item_fingerprint(sent, CONFIG) == item_fingerprint(tokenizer, CONFIG)
        first, second = (module._Chunks(t, CONFIG)(many(40)) for t in (tokenizer, sent))
        assert first.equals(second)

    @pytest.mark.slow
    def test_two_processes_at_once(self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        """Each sees a whole file at any moment, and nothing else is left."""
        bytes_tokenizer.save_pretrained(tmp_path / "tokenizer")
        (tmp_path / "out").mkdir()
        path = tmp_path / "out" / "tokens.arrow"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, str(path), str(tmp_path / "tokenizer"), str(count), "60"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for count in (700, 900)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            out, error = process.communicate(timeout=120)
            assert (process.returncode, out) == (0, "done\n"), error
        assert os.listdir(tmp_path / "out") == ["tokens.arrow"]

    @pytest.mark.slow
    def test_a_script_without_a_guard_is_told(self, bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        bytes_tokenizer.save_pretrained(tmp_path / "tokenizer")
        script = tmp_path / "script.py"
        script.write_text(UNGUARDED, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / "tokens.arrow"), str(tmp_path / "tokenizer")],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1].startswith("SAYS a process that tokenises the catalogue did not start")
        assert not (tmp_path / "tokens.arrow").exists()
