"""`reshelf retrain` over a log of the simulated shop: promoted or not, killed and repeated, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks.nights import demo_run, earlier, lists_of, write_log, write_mapping
from reshelf import retrain
from reshelf.cli import main
from reshelf.data.atomic import locked_folder
from reshelf.data.marketplace import MarketplaceConfig, Simulator
from reshelf.finetune.run import finetune
from reshelf.modeling.spec import read_spec

SHOP = MarketplaceConfig(
    seed=3, items_per_category=12, candidates=6, lists_per_shopper=1, history_min=2, history_max=3, position_bias=0.3,
    decisiveness=3.0,
)  # fmt: skip


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A running reranker that orders the wrong way round is replaced."""
    simulator = Simulator(SHOP)
    root, running, out = tmp_path / "log", tmp_path / "model", tmp_path / "retrain"
    mapping = write_mapping(tmp_path / "shop.yaml", valid=0.1, test=0.7)
    lists = [earlier(one, 0) for one in lists_of(simulator, range(250))]
    command = ["retrain", str(running), "--root", str(root), "--out", str(out), "--mapping", str(mapping)]

    write_log(root, simulator.items, lists[:40])
    assert main(command) == 2
    assert "model is not a reranker folder" in capsys.readouterr().err
    _finetune_the_wrong_way_round(tmp_path, mapping, root)
    assert main(command) == 0, "too few lists for a night are no failure"
    assert "it takes 100" in capsys.readouterr().out
    assert not json.loads((out / "promotion.json").read_text())["promoted"]

    write_log(root, simulator.items, lists)
    with monkeypatch.context() as patch:
        patch.setattr(retrain, "promote", interrupted)
        assert main(command) == 130
    (tmp_path / "elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(retrain, "promote", interrupted)
        assert main([*command[:3], str(tmp_path / "elsewhere"), *command[4:]]) == 2, (
            "another log's lists are not its own"
        )
        assert not (out / "data").exists()
        assert main(command) == 130
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    (out / "model" / ".checkpoints.removed" / "checkpoint-3").mkdir(parents=True)  # killed in its last step
    (out / "model" / ".checkpoints.removed" / "checkpoint-3" / "optimizer.pt").touch()
    before = weights(running)
    with locked_folder(out, "`reshelf retrain`"):
        assert main(command) == 2
    assert "another `reshelf retrain` is writing there" in capsys.readouterr().err
    assert main(command) == 0, capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in made} == made, "what was finished is not made again"
    assert not (out / "model" / ".checkpoints.removed").exists()
    assert json.loads((out / "promotion.json").read_text())["promoted"]
    assert weights(running) == weights(out / "model") != before
    assert (running / "config.yaml").read_text() == (out / "model" / "config.yaml").read_text()
    assert f"propensities: {out / 'propensities.json'}" in (running / "config.yaml").read_text()
    assert read_spec(running).model.base == str(running / "base")

    (root / "events.csv").unlink()
    assert main(command) == 2
    found = json.loads((out / "promotion.json").read_text())
    assert not (out / "model").exists(), "after a finished call the next one begins anew"
    assert not found["promoted"]
    assert "events" in found["problem"]
    (running / "config.yaml").unlink()
    assert main(command) == 2
    assert "has no config.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["", "data", "model"])
def test_the_running_reranker_is_never_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: str) -> None:
    """`--out runs/shop` beside runs/shop/model, and the like."""
    running = tmp_path / "shop" / inside
    running.mkdir(parents=True)
    (running / "reshelf.json").write_text("{}")
    (tmp_path / "shop" / "promotion.json").write_text("{}")
    for _ in range(2):
        assert main(["retrain", str(running), "--root", str(tmp_path), "--out", str(tmp_path / "shop")]) == 2
        assert "overlap; choose another --out" in capsys.readouterr().err
    assert [one.name for one in running.iterdir() if one.name != "promotion.json"] == ["reshelf.json"]


@pytest.mark.parametrize("name", ["data", "model", "propensities.json"])
def test_what_others_made_is_neither_learned_from_nor_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    precious = tmp_path / "out" / name / "precious"
    precious.mkdir(parents=True)
    (tmp_path / "out" / "promotion.json").write_text("{}")
    command = ["retrain", str(tmp_path / "model"), "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert f"holds '{name}', which no `reshelf retrain` made there" in capsys.readouterr().err
    assert precious.exists()


def weights(model: Path) -> bytes:
    return (model / "adapter" / "adapter_model.safetensors").read_bytes()


def _finetune_the_wrong_way_round(folder: Path, mapping: Path, root: Path) -> None:
    changes = {
        "optimizer.max_steps": 3, "optimizer.lists_per_step": 4, "eval_every": 3, "prompt.history_tokens": 64,
        "lora.rank": 4, "model.quantise": False,
    }  # fmt: skip
    assert main(["data", "import", "--mapping", str(mapping), "--root", str(root), "--out", str(folder / "data")]) == 0
    run = demo_run(folder, **changes)
    finetune(run)
    path = run.out / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: -9 * one if "lora_B" in name else one for name, one in tensors.items()}, path, {"format": "pt"})
