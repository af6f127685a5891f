"""The `reshelf` command. Every subcommand is one function that takes one typed config.

    reshelf --help
    reshelf finetune --config finetune/beauty_search.yaml --out runs/mine

Only the chosen command's module is imported, so `reshelf --help` needs neither torch nor transformers. Exit codes:
0 done, 1 a failure (with its traceback), 2 a mistake in what was given (one sentence), 130 interrupted.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from reshelf import __version__
from reshelf.errors import DivergedError, ExportMismatchError, InputError, is_full_disk


@dataclass(frozen=True)
class Command:
    """What a subcommand does, by dotted names, so that only the chosen one is imported."""

    config: str
    """The dataclass its flags come from."""
    function: str
    """Takes one such config."""
    summary: str
    first: str = ""
    """Field that a first word without `--` gives."""

    def flags(self, words: Sequence[str]) -> list[str]:
        """What follows the command's name, as flags only."""
        bare = self.first and words and not words[0].startswith("-")
        return [f"--{self.first}", *words] if bare else list(words)


COMMANDS = {
    "demo": Command(
        "reshelf.demo.DemoConfig",
        "reshelf.demo.demo",
        "watch it work on a simulated shop, nothing but this machine needed",
    ),
    "quickstart": Command(
        "reshelf.quickstart.QuickstartConfig",
        "reshelf.quickstart.quickstart",
        "from a shop's own tables to a model to serve, in ten minutes",
        first="mapping",
    ),
    "data import": Command(
        "reshelf.data.importing.importer.ImportConfig",
        "reshelf.data.importing.importer.import_folder",
        "turn a shop's own tables into ranking lists",
    ),
    "data simulate": Command(
        "reshelf.data.marketplace.MarketplaceConfig",
        "reshelf.data.marketplace.simulate_folder",
        "make a marketplace with known tastes",
    ),
    "data propensities": Command(
        "reshelf.data.propensity.estimate.PropensityConfig",
        "reshelf.data.propensity.estimate.estimate",
        "estimate how likely each position of a list is examined (position bias)",
    ),
    "data ubi": Command(
        "reshelf.data.ubi_export.UbiConfig",
        "reshelf.data.ubi_export.export_ubi",
        "write served lists and events as User Behavior Insights 1.3",
    ),
    "data show": Command(
        "reshelf.data.show.ShowConfig",
        "reshelf.data.show.show",
        "print what is in a data set",
    ),
    "pretrain": Command(
        "reshelf.finetune.pretraining.pretrain.PretrainConfig",
        "reshelf.finetune.pretraining.pretrain.pretrain",
        "pretrain a small base language model, offline",
    ),
    "teach": Command(
        "reshelf.evaluation.teacher.TeachConfig",
        "reshelf.evaluation.teacher.teach",
        "write a strong teacher's scores into a data set, to learn from",
    ),
    "finetune": Command(
        "reshelf.finetune.config.FinetuneConfig",
        "reshelf.finetune.run.finetune",
        "train a reranker: LoRA over a 4-bit base",
    ),
    "tune": Command(
        "reshelf.finetune.tune.TuneConfig",
        "reshelf.finetune.tune.tune",
        "search for the settings of a finetuning run",
    ),
    "evaluate": Command(
        "reshelf.evaluation.config.EvaluateConfig",
        "reshelf.evaluation.run.evaluate",
        "compare rerankers on held-out lists",
    ),
    "rerank": Command(
        "reshelf.inference.rerank_command.RerankConfig",
        "reshelf.inference.rerank_command.rerank",
        "reorder one list for one shopper",
    ),
    "batch": Command(
        "reshelf.inference.batch.run.BatchConfig",
        "reshelf.inference.batch.run.batch",
        "score Parquet files of lists, any number of them",
    ),
    "serve": Command(
        "reshelf.inference.serving.config.ServeConfig",
        "reshelf.inference.serving.run.serve",
        "serve a reranker over HTTP",
        first="model",
    ),
    "engines": Command(
        "reshelf.inference.engines.timing.EnginesConfig",
        "reshelf.inference.engines.timing.time_engines",
        "time the engines on this machine, for engine auto to go by",
        first="model",
    ),
    "signals refresh": Command(
        "reshelf.inference.refresh_signals.RefreshConfig",
        "reshelf.inference.refresh_signals.refresh",
        "give a reranker newer counts and texts to compute its numbers from",
        first="model",
    ),
    "promote": Command(
        "reshelf.evaluation.promotion.PromoteConfig",
        "reshelf.evaluation.promotion.promote",
        "replace the running reranker with a new one, if it is better on served lists",
        first="model",
    ),
    "retrain": Command(
        "reshelf.retrain.RetrainConfig",
        "reshelf.retrain.retrain",
        "learn from the lists that were served, and promote what is better: every night",
        first="model",
    ),
    "experiment report": Command(
        "reshelf.evaluation.experiments.report.ExperimentReportConfig",
        "reshelf.evaluation.experiments.report.report_experiment",
        "say which arm of an experiment was better, from served lists and events",
    ),
    "key": Command(
        "reshelf.inference.serving.tenants.KeyConfig",
        "reshelf.inference.serving.tenants.make_key",
        "make a key for a tenant of the server",
    ),
    "export": Command(
        "reshelf.inference.export.run.ExportConfig",
        "reshelf.inference.export.run.export",
        "write a merged model that needs no code of ours",
    ),
}

RENAMED = {"base": "pretrain"}
"""Commands of earlier versions, and what they are called now."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Failures that are nobody's input propagate with their traceback, unless the disk is full.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with _heeding_interrupts() as pressed:
        try:
            return _dispatch(words)
        except BaseException as error:
            if pressed or isinstance(error, KeyboardInterrupt):
                print("reshelf: interrupted; give the same command again to finish", file=sys.stderr)
                return 130
            if (code := _said(error)) is None:
                raise
            return code


@contextmanager
def _heeding_interrupts() -> Iterator[list[int]]:
    """A list that is not empty any more once Ctrl-C was pressed; DuckDB, for one, makes of it an error of its own."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or current_thread() is not main_thread():
        yield pressed
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _said(error: BaseException) -> int | None:
    """Print a failure that a sentence says all of; returns the exit code, None for another."""
    if isinstance(error, InputError):
        print(f"reshelf: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if isinstance(error, DivergedError | ExportMismatchError):
        print(f"reshelf: {error}", file=sys.stderr)
        return 1
    if isinstance(error, Exception) and is_full_disk(error):
        where = getattr(error, "filename", None)
        print(f"reshelf: {f'{where}: ' if where else ''}the disk is full; make room, and repeat it", file=sys.stderr)
        return 1
    return None


def _dispatch(words: list[str]) -> int:
    if words in ([], ["-h"], ["--help"]):
        print(_overview())
        return 0
    if words == ["--version"]:
        print(f"reshelf {__version__}")
        return 0
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    if words[0] in groups and words[1:] in ([], ["-h"], ["--help"]):
        print(_overview(f"{words[0]} "))
        return 0
    name = " ".join(words[: 2 if words[0] in groups else 1])
    if name in RENAMED:
        raise InputError(f"`reshelf {name}` is now `reshelf {RENAMED[name]}`")
    if name not in COMMANDS:
        raise InputError(f"there is no command {name!r}; `reshelf --help` lists them")
    command = COMMANDS[name]
    kind = load(command.config)
    from reshelf.config import parse

    about = f"{command.summary[0].upper()}{command.summary[1:]}."
    config = parse(kind, command.flags(words[len(name.split()) :]), f"reshelf {name}", about, command.first)
    load(command.function)(config)
    return 0


def load(name: str) -> Any:
    """The object of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _overview(start: str = "") -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  reshelf {name:{width}}  {c.summary}" for name, c in COMMANDS.items() if name.startswith(start)]
    return "\n".join(
        [
            "Personalised reranking of shop search with an LLM cross-encoder that reads a list as one sequence.",
            "",
            *lines,
            "",
            "Each takes --config FILE.yaml and flags of the same names; `reshelf COMMAND --help` explains every one.",
            "reshelf --version prints the version.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
