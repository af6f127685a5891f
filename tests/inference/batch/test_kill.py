"""Jobs as real processes: killed with -9 at random moments and repeated, also on Ray; and memory that stays."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from reshelf.cli import main
from reshelf.data.dataset_folder import LIST_SCHEMA, write_records
from reshelf.data.schema import RankingList
from tests.forked import forked

pytestmark = pytest.mark.slow

MEASURED = """
import json, resource, sys
from reshelf.cli import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0
    print("peak MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def short_lists(count: int, seed: int = 0) -> Iterator[RankingList]:
    """Lists of a few candidates each, every tenth of them bad: it names an item that nobody has."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        ids = [f"p{i}" for i in rng.permutation(60)[: rng.integers(2, 5)]]
        yield RankingList(
            list_id=f"l{n}",
            user_id=f"u{rng.integers(count // 3 + 1)}",
            query=f"coat {n}",
            candidates=[*ids, "ghost"] if n % 10 == 3 else ids,
            scores=rng.random(len(ids) + (n % 10 == 3)).tolist(),
        )


MADE = list(short_lists(900))


@pytest.fixture(scope="module")
def words(reranker_folder: Path, items: Path) -> list[str]:
    """The command, but for its lists and its output folder."""
    return [
        *("batch", "--model", str(reranker_folder), "--catalogue", str(items), "--engine", "transformers"),
    ]


@pytest.fixture(scope="module")
def job(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command over two files, in shards of 50 lists."""
    folder = tmp_path_factory.mktemp("lists")
    write_records(folder / "a.parquet", MADE[:500], LIST_SCHEMA)
    write_records(folder / "b.parquet", MADE[500:], LIST_SCHEMA)
    return [*words, "--lists", str(folder), "--shard_lists", "50"]


@pytest.fixture(scope="module")
def whole(job: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the job leaves when nothing disturbs it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main([*job, "--out", str(out)]) == 0
    return out


@contextmanager
def started(words: Sequence[str], code: Sequence[str] = ("-m", "reshelf.cli")) -> Iterator[subprocess.Popen[str]]:
    """A job as a process, which does not outlive the block."""
    # One thread: a model this small gains nothing from two, and threads that wait for each other stand still wherever
    # the machine has something else to do.
    process = subprocess.Popen(
        [sys.executable, *code, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},  # by default +15, beside other tests
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(words: Sequence[str], code: Sequence[str] = ("-m", "reshelf.cli")) -> str:
    with started(words, code) as process:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
        return said


def outcome(out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the scores and of the rejects, in the order of the shards."""
    scores = [row for path in sorted(out.glob("scores-*")) for row in pq.read_table(path).to_pylist()]
    rejects = [json.loads(line) for path in sorted(out.glob("rejected-*")) for line in path.open(encoding="utf-8")]
    return scores, rejects


def wait_for_shards(out: Path, count: int, runs: Callable[[], bool], said: Callable[[], str]) -> None:
    until = time.monotonic() + 400
    while len(list(out.glob("scores-*"))) < count:
        assert runs(), said()
        assert time.monotonic() < until, "no shard was finished"
        time.sleep(0.02)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in ("report.json", "manifest.json")}


def test_killed_at_random_and_resumed(
    job: list[str], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, printed = tmp_path / "killed", tmp_path / "said"
    rng = random.Random(0)
    for _ in range(2):
        before = len(list(killed.glob("scores-*")))
        with forked(main, [*job, "--out", str(killed)], said=printed) as process:
            wait_for_shards(killed, before + 1, process.is_alive, printed.read_text)
            time.sleep(rng.random() * 0.2)  # a shard takes 0.03 to 0.3 s
            process.kill()
    cut_short = len(list(killed.glob("scores-*")))
    assert cut_short < 18, "the job ended before it was killed"
    assert main([*job, "--out", str(killed)]) == 0
    assert f"{cut_short * 50:,} of 900 lists were done before" in capsys.readouterr().out
    assert files(killed) == files(whole)
    scores, rejects = outcome(killed)
    assert [row["list_id"] for row in scores] == [one.list_id for n, one in enumerate(MADE) if n % 10 != 3]
    assert [row["list_id"] for row in rejects] == [one.list_id for n, one in enumerate(MADE) if n % 10 == 3]
    report = json.loads((killed / "report.json").read_text())
    assert (report["lists"], report["rejected"]) == (810, 90)


def test_memory_does_not_grow_with_the_lists(words: list[str], tmp_path: Path) -> None:
    """Five times the lists, most of them with words of their own, in one row group: the same peak, but for kernels of
    lengths that are new, which lie in the middle of the heap."""
    jobs = []
    for count in (1000, 5000):
        lists = tmp_path / f"{count}.parquet"
        write_records(lists, short_lists(count), LIST_SCHEMA)
        jobs.append([*words, "--lists", str(lists), "--shard_lists", "100", "--out", str(tmp_path / str(count))])
    said = finish([json.dumps(jobs)], ("-c", MEASURED))
    peaks = [float(one) for one in re.findall(r"peak MiB (\S+)", said)]
    assert len(peaks) == 2
    assert peaks[1] < peaks[0] + 80


def test_ray_with_a_killed_worker_gives_the_same(job: list[str], whole: Path, tmp_path: Path) -> None:
    together = tmp_path / "together"
    with started([*job, "--out", str(together), "--ray", "--workers", "2"]) as process:
        wait_for_shards(together, 2, lambda: process.poll() is None, lambda: process.communicate()[0])
        actors = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "ShardActor" in " ".join(child.cmdline())
        ]
        assert len(actors) == 2
        os.kill(actors[0].pid, signal.SIGKILL)
        unfinished = 18 - len(list(together.glob("scores-*")))
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
    assert unfinished > 2, "the job ended before its worker was killed"
    (scores, rejects), (expected, expected_rejects) = outcome(together), outcome(whole)
    assert rejects == expected_rejects
    for row, other in zip(scores, expected, strict=True):
        np.testing.assert_allclose(row.pop("scores"), other.pop("scores"), atol=1e-5)
        row.pop("ranked"), other.pop("ranked")
        assert row == other
