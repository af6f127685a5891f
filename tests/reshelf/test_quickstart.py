"""`reshelf quickstart` on small shops in CSV, an English and a Chinese one: whole, killed at any step and repeated."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reshelf.cli import main
from reshelf.data.atomic import locked_folder
from reshelf.modeling.spec import read_spec
from reshelf.quickstart import PLAN

KINDS = {
    "en": ["mug", "lamp", "rug", "chair", "plate", "towel"],
    "zh": ["马克杯", "台灯", "地毯", "椅子", "盘子", "毛巾"],
}
COLOURS = {"en": ["red", "blue", "green", "black", "white"], "zh": ["红色", "蓝色", "绿色", "黑色", "白色"]}
BRANDS = {"en": ["Kiln", "Nordvik", "Hearth"], "zh": ["窑坊", "北木", "暖居"]}
PRICE = {"en": "{:,.2f} USD", "zh": "{:.0f}元"}
MAPPING = {
    "items": {"file": "products.csv", "item_id": "sku", "title": "name", "category": "kind", "brand": "brand",
              "price": "price"},
    "events": {"file": "events.csv", "user_id": "who", "item_id": "sku", "time": "at", "kind_column": "what",
               "list_id": "request"},
    "pairs": {"file": "shown.csv", "list_id": "request", "user_id": "who", "time": "at", "query": "text",
              "item_id": "sku", "position": "place"},
}  # fmt: skip


def write_shop(folder: Path, language: str, products: int, lists: int, shown: int = 12) -> Path:
    """Tables of an invented shop, in which every shopper likes one colour, and its mapping."""
    draw = random.Random(7)
    kinds, colours, brands = KINDS[language], COLOURS[language], BRANDS[language]
    join = " " if language == "en" else ""
    items = [
        {"sku": f"p{n}", "kind": kinds[n % len(kinds)], "colour": colours[n // len(kinds) % len(colours)],
         "brand": brands[draw.randrange(3)], "price": PRICE[language].format(5 + draw.random() * 2000)}
        for n in range(products)
    ]  # fmt: skip
    for item in items:
        item["name"] = join.join((item["brand"], item["colour"], item["kind"]))
    tables: dict[str, list[dict[str, object]]] = {"products": items, "events": [], "shown": []}
    likes = [draw.choice(colours) for _ in range(max(lists // 12, 8))]
    for n in range(lists):
        who, kind = draw.randrange(len(likes)), draw.choice(kinds)
        hits = draw.sample([item for item in items if item["kind"] == kind], shown)
        row = {"who": f"u{who}", "request": f"r{n}"}
        row["at"] = f"2026-{1 + n * 6 // lists:02d}-{1 + n * 168 // lists % 28:02d} {n % 24:02d}:{n % 60:02d}:00+00:00"
        for place, item in enumerate(hits, start=1):
            tables["shown"].append(row | {"sku": item["sku"], "place": place, "text": kind})
            if draw.random() < (0.6 if item["colour"] == likes[who] else 0.02):
                tables["events"].append(row | {"sku": item["sku"], "what": "click"})
                tables["events"].append(row | {"sku": item["sku"], "what": "purchase"})
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(MAPPING), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_from_csv_to_a_served_model(language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = write_shop(tmp_path / "shop", language, products=90, lists=120)
    out = tmp_path / "out"
    command = ["quickstart", str(mapping), "--root", str(mapping.parent), "--out", str(out), "--minutes", "0.1"]
    assert main(command) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "There is no GPU" in said or "There is a GPU" in said
    assert f"reshelf serve {out / 'model'} --data {out / 'data'}" in said
    spec = read_spec(out / "model")
    assert spec.prompt.language == language
    signals = ["cobought", "match", "popularity", "query_chars", "query_clicks", "query_match", "recent"]
    assert spec.prompt.features == [*signals, "similar_query_clicks"]
    assert spec.lift is not None
    assert spec.lift.sentence(language) in said
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert spec.lift.sentence(language) in card
    prose = re.search("[a-z]{2,} [a-z]{2,} [a-z]{2,}|^[|] [a-z]+", re.sub("`[^`]+`|\\n    .*", "", card), re.MULTILINE)
    assert (prose is None) == (language == "zh"), prose
    assert {"first_stage", "base", "finetuned"} <= set(json.loads((out / "report.json").read_text())["systems"])
    facts = json.loads((out / "data" / "report.json").read_text())
    assert facts["language"] == language
    assert json.loads((out / "report.json").read_text())["language"] == language
    assert facts["tables"]["items"]["repaired"] == {}, "every price is read"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    other = write_shop(tmp_path / "other", language, products=90, lists=120)
    assert main(["quickstart", str(other), "--root", str(other.parent), "--out", str(out)]) == 2
    assert "begun with another root" in capsys.readouterr().err


KILL = """
import os, signal, sys
import reshelf.quickstart as quickstart
from reshelf.cli import main

def kill(name):
    original = getattr(quickstart, name)
    def killing(*args, **kwargs):
        callbacks = kwargs.get("callbacks", ())
        if any(isinstance(one, quickstart.StopAt) for one in callbacks):
            from transformers import TrainerCallback
            class Kill(TrainerCallback):
                def on_step_end(self, args, state, control, **_):
                    if state.global_step == 3:
                        os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, callbacks=[*callbacks, Kill()])
        found = original(*args, **kwargs)
        if name != "finetune":
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(quickstart, name, killing)

for line in sys.stdin:
    if not (child := os.fork()):
        os.dup2(2, 1)
        kill(line.strip())
        os._exit(main(sys.argv[1:]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Of one process, which imports the libraries: for every step that it reads the name of, another one, killed there."""


@pytest.mark.slow
def test_killed_at_any_step_and_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = write_shop(tmp_path / "shop", "en", products=90, lists=120)
    out = tmp_path / "out"
    command = ["quickstart", str(mapping), "--root", str(mapping.parent), "--out", str(out), "--minutes", "0.1"]
    killing = [sys.executable, "-c", KILL, *command]
    said = tmp_path / "said"
    with (
        said.open("w") as stderr,
        subprocess.Popen(killing, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("import_folder", "pretrain", "finetune", "evaluate"):
            print(name, file=process.stdin, flush=True)
            assert process.stdout.readline() == f"{-signal.SIGKILL}\n", said.read_text()
            assert not (out / "model" / "reshelf.json").exists() or name == "evaluate"
    # And while a base's or a model's checkpoints are removed, and while files are written.
    for left in ("base/checkpoints", "base/.checkpoints.removed", "model/.checkpoints.removed"):
        (out / left / "checkpoint-1").mkdir(parents=True)
    for left in (".report.svg", f".{PLAN}", "base/.README.md", "model/.reshelf.json"):
        (out / f"{left}.0123456789ab.partial").touch()
    assert main(command) == 0, capsys.readouterr().err
    assert (out / "report.json").is_file()
    assert not [path for path in out.rglob("*") if path.name.startswith(".") or path.name == "checkpoints"]


def test_what_cannot_be_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = write_shop(tmp_path / "shop", "en", products=90, lists=20)
    right = mapping.read_text(encoding="utf-8")
    command = ["quickstart", str(mapping), "--root", str(mapping.parent), "--out", str(tmp_path / "begun")]
    for wrong, problem in (("brand: brand", "no column 'maker'"), ("price: price", "no column 'maker'")):
        mapping.write_text(right.replace(wrong, wrong.partition(":")[0] + ": maker"), encoding="utf-8")
        assert main(command) == 2, "a mapping is corrected until it is right"
        assert problem in capsys.readouterr().err
        assert not (tmp_path / "begun").exists()
    assert main(["quickstart", "nowhere.yaml", "--out", str(tmp_path / "out")]) == 2
    assert "neither a file nor one of the shipped mappings" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for minutes in ("0", "1e308", "nan"):
        assert main(["quickstart", "shop", "--out", str(tmp_path / "out"), "--minutes", minutes]) == 2


def test_an_output_that_is_a_file_or_another_callers_or_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping, out = write_shop(tmp_path / "shop", "en", products=90, lists=20), tmp_path / "out"
    command = ["quickstart", str(mapping), "--out", str(out)]
    out.write_text("a file")
    assert main(command) == 2
    assert f"cannot write {out}: Not a directory; choose another output folder" in capsys.readouterr().err
    out.unlink()
    with locked_folder(out, "quickstart"):
        assert main(command) == 2
    assert "another quickstart is writing there; wait for it to end" in capsys.readouterr().err
    (out / "data").mkdir(parents=True)
    for holds, words in (("[1]", "holds no JSON object"), ("{cut", "cannot be read")):
        (out / PLAN).write_text(holds)
        assert main(command) == 2
        assert f"{out / PLAN} {words}" in capsys.readouterr().err
