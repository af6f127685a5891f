"""The benchmarks compare like with like, and their page says what their result files say."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.leaderboard import NAMES, README, read_results, render
from benchmarks.turns import Turns
from benchmarks.workload import Operations, read_lists, shape_lists, simulated_tokenizer, write_workload
from reshelf.modeling.lift import Lift

PROMISED = {
    "train_step": ["train_vs_sentence_transformers", "train_vs_flagembedding", "train_memory_vs_peers",
                   "train_share_of_bare"],
    "score_list": ["score_vs_crossencoder", "score_vs_flagembedding", "score_share_of_bare", "vllm_vs_uncached",
                   "vllm_vs_llm_score"],
    "batch": ["batch_share_of_engine"],
    "prompts": [],
    "signals": ["signals_ms", "signals_live_ms", "query_signals_ms", "query_signals_live_ms"],
    "logs": ["built_vs_past", "built_gib", "queries_gib", "shown_vs_past", "shown_s", "shown_gib"],
    "serving": ["first_reply_s", "overhead_ms_10", "overhead_share_100", "load_80%_5xx", "load_300%_p99 ms"],
    "two_tenants": ["tenants_in_time", "tenants_p99 ms", "tenants_5xx", "tenants_memory growth, share"],
    "fuzz": ["fuzz_cases", "fuzz_5xx", "fuzz_not_as_documented"],
    "hostile": ["hostile_places_up_beyond_plain", "hostile_control_tokens"],
    "experiments": ["interleaved_equal", "interleaved_better", "ab_equal", "ab_better"],
    "nights": ["nights_share_of_unbiased", "nights_minus_unbiased_low", "nights_gain"],
    "feature_dropout": ["dropout_cost", "dropout_without_one", "dropout_without_all"],
    "data_needed": [],
    "feature_names": ["feature_names_ndcg", "feature_names_step_seconds", "feature_names_tokens"],
    "level_format": ["level_format_ndcg", "level_format_step_seconds", "level_format_tokens"],
    "long_memory": ["memory_gain_simulated", "memory_gain_beauty"],
    "matching": ["matching_en", "matching_zh", "matching_en_500", "matching_zh_500"],
    "level_embeddings": ["level_walk_over_random", "level_walk_over_trained", "level_walk_over_numbers"],
    "quickstart": ["quickstart_minutes", "quickstart_gain", "quickstart_served_vs_offline"],
    "against_past": ["score_small_vs_past", "score_real_vs_past", "finetune_real_vs_past", "serve_requests_vs_past"],
    "rounding": ["tau_bfloat16", "ndcg_bfloat16_less_float32", "tau_weights_rounded", "tau_inputs_rounded"],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_result_file_holds_what_was_promised(name: str, repository: Path) -> None:
    result = json.loads((repository / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert result["name"] == name
    assert set(PROMISED[name]) <= set(result["ratios"])
    assert result["rows"]
    assert {"python", "torch"} <= set(result["versions"])
    assert result["machine"]["cores"] > 0


def test_the_page_is_made_from_the_result_files() -> None:
    """Where this fails: python -m benchmarks.leaderboard."""
    assert README.read_text(encoding="utf-8") == render(read_results())


def test_the_curve_in_the_documents_is_what_was_measured(repository: Path) -> None:
    page = (repository / "docs" / "finetuning.md").read_text(encoding="utf-8")
    result = json.loads((repository / "benchmarks" / "results" / "data_needed.json").read_text(encoding="utf-8"))
    for row in result["rows"]:
        sizes = f"| {row['events']:,} | {row['train lists']:,} "
        found = f"| {row['first stage']:.3f} | {row['reranker']:.3f} | {row['reranker gains']} "
        known = " | ".join(f"{row[name]:.3f}" for name in ("half known", "a tenth known", "without numbers"))
        assert f"{sizes}{found}| {known} |" in page
    others = [row["train lists"] for row in result["rows"] if "(+" not in row["reranker gains"]]
    advice = Lift(0.4, 0.5, -0.2, -0.1, 30).sentence()
    assert f"{max(others) // 100 * 100} of real purchases did not)" in advice


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_script_says_what_it_can_be_asked_for(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(repository / "benchmarks" / f"{name}.py"), run_name="__main__")
    assert f"make bench NAME={name}" in capsys.readouterr().out


def test_everybody_reads_the_same_tokens(tmp_path: Path) -> None:
    """As ids, as a pair of texts, and as one text."""
    from transformers import AutoTokenizer

    tokenizer = simulated_tokenizer()
    write_workload(tmp_path, shape_lists(tokenizer, prefix=40, item=9, candidates=3, count=2), tokenizer)
    read = AutoTokenizer.from_pretrained(tmp_path / "base")
    lists = read_lists(tmp_path)
    assert len(lists) == 2
    for entry in lists:
        assert (len(entry.prefix_ids), entry.tokens) == (40, 40 + 3 * 9)
        assert entry.prompt().prefix.tolist() == entry.prefix_ids
        for text, ids in zip(entry.texts, entry.item_ids, strict=True):
            assert read(entry.prefix, text)["input_ids"] == [*entry.prefix_ids, *ids]
            assert read(entry.prefix + text)["input_ids"] == [*entry.prefix_ids, *ids]
    assert lists[0].prefix != lists[1].prefix


def test_operations_against_counting_every_pair() -> None:
    prefix, items = 7, [3, 1, 4]
    count = Operations("small")

    def brute(owner: list[int], position: list[int]) -> int:
        """Pairs of a query and a key that it may see; owner 0 is the prefix."""
        return sum(
            owner[k] in (0, owner[q]) and position[k] <= position[q]
            for q in range(len(owner)) for k in range(len(owner))
        )  # fmt: skip

    owner = [0] * prefix + [n for n, length in enumerate(items, 1) for _ in range(length)]
    position = [*range(prefix), *(prefix + i for length in items for i in range(length))]
    assert count.one_sequence(prefix, items) == count.forward(len(owner), brute(owner, position))
    pairs = sum((prefix + n) * (prefix + n + 1) // 2 for n in items)
    assert count.separate(prefix, items) == count.forward(sum(prefix + n for n in items), pairs)
    # 9.6 for 256 hidden units; a large model comes near the ratio of the tokens.
    shape = 1024, [64] * 32
    assert count.separate(*shape) / count.one_sequence(*shape) == pytest.approx(9.6, abs=0.1)
    large = Operations("Qwen3-4B")
    tokens = 32 * (1024 + 64) / (1024 + 32 * 64)
    assert 0.95 * tokens < large.separate(*shape) / large.one_sequence(*shape) < tokens


def test_a_contestant_waits_for_its_turn_and_tells_its_peak(repository: Path, tmp_path: Path) -> None:
    assert Turns.__doc__
    script = tmp_path / "contestant.py"
    script.write_text(
        "import numpy as np\n"
        "from benchmarks.turns import Turns\n"
        "turns = Turns()\n"
        "print('noise')\n"
        "turns.ready(model='here')\n"
        "while turns.turn():\n"
        "    np.ones((turns.task, 2**17))\n"
        "    turns.done(task=turns.task)\n"
    )
    lines = "".join(json.dumps(size) + "\n" for size in (64, 8))
    environment = {"PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, str(script)], input=lines, capture_output=True, text=True, env=environment, check=True
    )
    ready, large, small = (json.loads(line) for line in done.stdout.splitlines())
    assert ready == {"model": "here"}
    assert (large["task"], small["task"]) == (64, 8)
    assert large["peak_mib"] == pytest.approx(64, abs=16)
    assert small["peak_mib"] < 40
    assert np.isfinite(large["seconds"])
