"""The wheel and the sdist, built from a checkout without symbolic links, and the commands of the installed wheel.

The wheel goes into an environment of its own, outside the checkout. Its dependencies are those of this environment,
seen through a path file; of Reshelf it sees the wheel alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(link.name for link in (ROOT / "reshelf").iterdir() if link.is_symlink())


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that does not see the checkout."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def files_of(checkout: Path) -> set[str]:
    """What git tracks in the packages and in reshelf/, the links left out, as the wheel should name it."""
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "reshelf", *PACKAGES, cwd=checkout)
    paths = {Path(name) for name in tracked.splitlines()}
    return {
        str(path if path.parts[0] == "reshelf" else Path("reshelf", path))
        for path in paths
        if (checkout / path).is_file() and not (checkout / path).is_symlink()
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy as git makes it with `core.symlinks=false`: small text files in the place of links."""
    folder = tmp_path_factory.mktemp("checkout") / "reshelf"
    folder.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for package in (*PACKAGES, "reshelf"):
        shutil.copytree(ROOT / package, folder / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for package in PACKAGES:
        link = folder / "reshelf" / package
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)
    return folder


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    """The folder with the sdist, and the wheel made from it."""
    run(sys.executable, "-m", "build", "--no-isolation", cwd=checkout)
    return checkout / "dist"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    libraries = sysconfig.get_path("purelib")
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{libraries}\n")
    return folder / "bin"


def test_wheel_and_sdist_hold_every_file_of_the_rooms(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    expected = files_of(ROOT)
    assert {"reshelf/data/mappings/shop.yaml", "reshelf/finetune/bases/marketplace/model.safetensors"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2] for member in archive if member.isfile()}
    in_packages = {name.removeprefix("reshelf/") if name.split("/")[1] in PACKAGES else name for name in expected}
    assert in_packages <= members


def test_a_checkout_without_a_room_is_not_built(checkout: Path, tmp_path: Path) -> None:
    """The build ends with a sentence, where it used to leave a wheel of five modules."""
    broken = tmp_path / "broken"
    shutil.copytree(checkout, broken, ignore=shutil.ignore_patterns("dist", "*.egg-info", "prompts"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel"]
    done = subprocess.run(command, cwd=broken, capture_output=True, text=True)
    assert done.returncode != 0
    assert "reshelf cannot be built: prompts/__init__.py is not there" in done.stdout + done.stderr
    assert not list(broken.glob("dist/*.whl"))


def test_the_installed_command_needs_no_checkout(installed: Path, tmp_path: Path) -> None:
    """Help, a shipped config, and the demo, from its shop to a list in order; nothing is read from the repository."""
    where = run(installed / "python", "-c", "import reshelf.data.schema as s; print(s.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    reshelf = installed / "reshelf"
    assert "reshelf demo" in run(reshelf, "--help", cwd=tmp_path)
    shown = run(reshelf, "finetune", "--config", "finetune/shop_small.yaml", "--print_config", cwd=tmp_path)
    assert "out: runs/shop/model\n" in shown
    run(reshelf, "demo", "--quick", "--out", "runs", cwd=tmp_path)
    assert json.loads((tmp_path / "runs" / "report.json").read_text())["systems"]["finetuned"]
