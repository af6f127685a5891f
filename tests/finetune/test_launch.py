"""Several real processes: the same curve and adapter as one process, after a kill too; one voice for a mistake."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.numpy import load_file

from reshelf.config import config_text, load_yaml
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.spec import read_spec

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "finetune" / "accelerate").glob("*.yaml"))

KILL = """
import os, signal, sys
from reshelf.cli import main
from reshelf.finetune.trainer import ListTrainer
original, seen = ListTrainer.training_step, [0]
def training_step(self, *args, **kwargs):
    seen[0] += 1
    if seen[0] == 8 and self.args.process_index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)
ListTrainer.training_step = training_step
sys.exit(main(sys.argv[1:]))
"""
GLOO_AS_GPUS = """
import sys, torch
from accelerate.state import DistributedType, PartialState
import reshelf.finetune.run as run
from reshelf.cli import main
torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda self, *args: ("gloo", DistributedType.MULTI_GPU)
PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
gather = run.gather_adapter
def look(model):
    shares = {p.to_local().numel() / p.numel() for p in model.parameters()}  # of a process, every parameter a DTensor
    types = {str(p.dtype) for p in model.parameters()}
    print(f"shares {sorted(shares)} {types}\\n", end="")  # in one piece, for the other process prints too
    gather(model)
run.gather_adapter = look
sys.exit(main(sys.argv[1:]))
"""
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def curve(folder: Path) -> dict:
    return json.loads((folder / "curve.json").read_text())


def launch(*words: str | Path, kind: str = "ddp") -> subprocess.CompletedProcess[str]:
    """Run the documented command with two processes; without a GPU they talk over gloo."""
    file = ROOT / "finetune" / "accelerate" / f"{kind}.yaml"
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", file]
    command = [str(word) for word in (*start, "--num_processes", "2", "--main_process_port", "0", *words)]
    return subprocess.run(command, env=ONE_THREAD, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_processes_killed_and_resumed_do_what_one_does(config: FinetuneConfig, tmp_path: Path) -> None:
    """19 lists in forward passes of 6, 6, 6 and 1, two to an optimizer step: in the last, one process has no list."""
    config.lora.dropout, config.train_lists = 0.0, 19  # each process draws its own dropout
    config.optimizer.lists_per_step, config.optimizer.accumulation, config.optimizer.epochs = 6, 2, 3
    finetune(config)
    two = copy.deepcopy(config)
    two.out, two.optimizer.lists_per_step = tmp_path / "two", 3
    (tmp_path / "two.yaml").write_text(config_text(two))
    (tmp_path / "kill.py").write_text(KILL)

    killed = launch(tmp_path / "kill.py", "finetune", "--config", tmp_path / "two.yaml")
    assert "SIGKILL" in killed.stderr
    there = {path.name for path in (two.out / "checkpoints").iterdir()}
    assert there == {"begun.json", "checkpoint-3"}  # inside the second epoch
    done = launch("-m", "reshelf.cli", "finetune", "--config", tmp_path / "two.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kept the checkpoint of step") == 1
    assert done.stdout.count("step     6 ") == 1

    assert len(curve(config.out)["train"]) == 6
    same(two.out, config.out)


@pytest.mark.slow
def test_a_four_bit_model_spread_by_fsdp_does_what_one_process_does(config: FinetuneConfig, tmp_path: Path) -> None:
    """accelerate offers FSDP to GPUs alone; told that two gloo processes are two of them, all the rest is real."""
    config.lora.dropout, config.optimizer.epochs, config.train_lists = 0.0, 1, 20
    config.optimizer.gradient_checkpointing = True
    finetune(config)
    two = copy.deepcopy(config)
    two.out, two.optimizer.lists_per_step = tmp_path / "two", 3
    (tmp_path / "two.yaml").write_text(config_text(two))
    (tmp_path / "gloo.py").write_text(GLOO_AS_GPUS)
    done = launch(tmp_path / "gloo.py", "finetune", "--config", tmp_path / "two.yaml", kind="fsdp")
    assert done.returncode == 0, done.stderr
    assert "shares [0.5] {'torch.float32'}" in done.stdout, "4-bit weights are float32 to FSDP, and each has half"
    same(two.out, config.out)


def same(two: Path, one: Path) -> None:
    """Both runs left the same curve, adapter and files."""
    ours, theirs = curve(two), curve(one)
    for part in ("train", "valid"):
        assert [point["step"] for point in ours[part]] == [point["step"] for point in theirs[part]]
        for name in ("loss", "ndcg@10") if part == "valid" else ("loss",):
            values = ([point[name] for point in one[part]] for one in (ours, theirs))
            np.testing.assert_allclose(*values, rtol=0, atol=1e-5)
    weights = [load_file(folder / "adapter/adapter_model.safetensors") for folder in (two, one)]
    assert weights[0].keys() == weights[1].keys()
    for name, expected in weights[1].items():
        np.testing.assert_allclose(weights[0][name], expected, rtol=0, atol=1e-4)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    scores = np.linspace(-3, 3, 7)
    chances = [found.probability(scores) for found in map(_calibration, (two, one))]
    np.testing.assert_allclose(*chances, rtol=0, atol=1e-3)


def _calibration(folder: Path) -> Calibration:
    found = read_spec(folder).calibration
    assert found is not None
    return found


@pytest.mark.slow
def test_a_mistake_is_said_once_and_ends_all_processes(config: FinetuneConfig, tmp_path: Path) -> None:
    config.data = tmp_path / "nowhere"
    (tmp_path / "bad.yaml").write_text(config_text(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = ONE_THREAD | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "reshelf.cli", "finetune", "--config", str(tmp_path / "bad.yaml")]
    running = [
        subprocess.Popen(command, env=shared | {"RANK": n, "LOCAL_RANK": n}, stderr=subprocess.PIPE, text=True)
        for n in "01"
    ]
    said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [2, 2], said
    assert [text.count("reshelf: ") for text in said] == [1, 0]
    assert "is not there" in said[0]
    assert "Traceback" not in "".join(said)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_an_accelerate_config_and_its_command_parse(path: Path) -> None:
    """The comment shows one command; accelerate must know its part and the file's every key, reshelf the rest."""
    loaded = load_config_from_file(str(path))
    expected = {"ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed_zero2": "DEEPSPEED"}[path.stem]
    assert loaded.distributed_type == expected
    assert loaded.mixed_precision == "no"
    comment = path.read_text(encoding="utf-8").split("compute_environment")[0]
    (command,) = re.findall(r"accelerate launch (.*)", re.sub(r"\\\n#\s*", "", comment))
    launched = launch_command_parser().parse_args(shlex.split(command))
    assert ROOT / launched.config_file == path
    assert (launched.module, launched.training_script) == (True, "reshelf.cli")
    known = vars(launched)
    for name in (*loaded.fsdp_config, *loaded.deepspeed_config):
        assert name in known, f"accelerate launch has no option {name}"
    verb, flag, recipe = launched.training_script_args
    assert (verb, flag) == ("finetune", "--config")
    load_yaml(FinetuneConfig, ROOT / recipe)


def test_every_kind_of_parallelism_ships() -> None:
    assert [path.stem for path in CONFIGS] == ["ddp", "deepspeed_zero2", "fsdp"]
