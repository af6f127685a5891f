"""The measured leaderboard: `benchmarks/README.md` made from the result files, so that the two cannot differ.

python -m benchmarks.leaderboard
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS

README = Path(__file__).parent / "README.md"
NAMES = (
    "train_step",
    "score_list",
    "batch",
    "prompts",
    "signals",
    "logs",
    "serving",
    "two_tenants",
    "fuzz",
    "hostile",
    "experiments",
    "nights",
    "long_memory",
    "matching",
    "feature_dropout",
    "data_needed",
    "feature_names",
    "level_format",
    "level_embeddings",
    "quickstart",
    "against_past",
    "rounding",
)
CLAIMS: dict[str, tuple[str, str]] = {
    "train_vs_sentence_transformers": ("training lists/s, times sentence-transformers' CrossEncoderTrainer", "≥ 8"),
    "train_vs_flagembedding": ("training lists/s, times FlagEmbedding's decoder-only finetune", "≥ 8"),
    "train_limit": ("the limit of both, counting operations", ""),
    "train_memory_vs_peers": ("training peak memory above the model's own, share of the leaner peer's", "≤ 0.25"),
    "train_share_of_bare": ("speed of a bare forward + backward of the distinct tokens", "≥ 0.8"),
    "score_vs_crossencoder": ("transformers engine, times CrossEncoder.predict", "≥ 7"),
    "score_vs_flagembedding": ("transformers engine, times FlagEmbedding's LLM reranker", ""),
    "score_share_of_bare": ("speed of a bare forward pass over the distinct tokens", ""),
    "vllm_vs_uncached": ("vLLM engine, times LLM.score with the prefix cache off", "≥ 8"),
    "vllm_vs_llm_score": ("vLLM engine, times LLM.score as documented, cache on", "≥ 1.5"),
    "vllm_vs_llm_score_in_one_process": ("vLLM engine, times LLM.score in one process, cache on", "≥ 1"),
    "repeated_shopper_transformers": ("p50 of a returning shopper with a new query, share of a new shopper's", "< 1"),
    "repeated_shopper_vllm": ("the same on vLLM", "< 1"),
    "batch_share_of_engine": ("`reshelf batch` lists/s, share of the bare engine's", "≥ 0.9"),
    "first_reply_s": ("`reshelf serve` on transformers: seconds from the command to the first reply", "≤ 20"),
    "overhead_share_100": ("HTTP request of 100 candidates less the engine's time, p50, share of that time", "≤ 0.1"),
    "overhead_share_100_socket": ("the same by a bare socket, without the work of Python's own HTTP client", "≤ 0.1"),
    "overhead_ms_10": ("the same of 10 candidates, milliseconds", "≤ 5"),
    "load_80%_5xx": ("replies 5xx under open-loop load at 80 % of capacity, 1 % of it malformed", "0"),
    "load_80%_wrong orders": ("orders other than the offline engine's in that load", "0"),
    "load_80%_memory growth, share": ("memory at its end over that after a quarter of it, less 1", "≈ 0"),
    "load_300%_5xx": ("replies 5xx at 300 % of capacity", "0"),
    "load_300%_wrong orders": ("orders neither the offline engine's nor a marked fallback", "0"),
    "load_300%_p99 ms": ("p99 at 300 % of capacity, milliseconds; the deadline is 2,000", "≤ 2,020"),
    "fuzz_not_as_documented": ("runs of 10,000 requests made from the OpenAPI with a reply not as documented", "0"),
    "fuzz_5xx": ("replies 5xx to them", "0"),
    "hostile_places_up_beyond_plain": (
        "places that hostile titles lift a product beyond plain text of as many tokens",
        "≤ 0",
    ),
    "tau_bfloat16": ("Kendall's tau of the order in bfloat16 and in float32, Gemma 3 270M on CrowdFlower", "≥ 0.99"),
    "ndcg_bfloat16_less_float32": ("nDCG@10 in bfloat16 less that in float32", "≥ −0.002"),
    "signals_ms": ("the six signals of 100 candidates, p50, milliseconds", "≤ 2"),
    "signals_live_ms": ("the same with 100,000 events since the import", "≤ 2"),
    "query_signals_ms": ("the nine signals of 50 candidates of Best Buy, p50, milliseconds", "≤ 2"),
    "query_signals_live_ms": ("the same with 100,000 events since the import", "≤ 2"),
    "matching_en": ("pairs that layers of other words put in order, English shop never read (0.5 is chance)", "≥ 0.65"),
    "matching_zh": ("the same, Chinese shop", "≥ 0.65"),
    "matching_en_500": ("the same after 500 sessions, English", ""),
    "matching_zh_500": ("the same after 500 sessions, Chinese", ""),
    "built_vs_past": ("lists made from 2 million events, times the build before", "≥ 3"),
    "built_gib": ("peak memory of that, GiB", "≤ 1"),
    "queries_gib": ("the same, negatives among the items of 50,000 queries", "≤ 1"),
    "shown_vs_past": ("10 million events and 4 million products shown to lists, times the build before", "≥ 1"),
    "shown_s": ("seconds of that", "≤ 120"),
    "shown_gib": ("peak memory of that, GiB", "≤ 8"),
    "feature_names_ndcg": ("nDCG@10 with the names of numbers in the prefix, less beside each level", "≥ 0"),
    "feature_names_step_seconds": ("a training step so, share of the other's", "< 1"),
    "level_format_tokens": ("tokens of a list with a real base where levels are letters, share of numbers'", "< 1"),
    "level_format_step_seconds": ("a training step so, share of the other's", "< 1"),
    "level_format_ndcg": ("nDCG@10 so, less that with numbers (100 lists)", ""),
    "feature_names_tokens": ("tokens of a list so with a real base, share of the other's", "< 1"),
    "level_walk_over_random": (
        "nDCG@10 of a small network that reads levels whose near ones have like embeddings, less with random ones",
        "> 0",
    ),
    "level_walk_over_trained": ("the same, less with embeddings trained beside the network", "> 0"),
    "level_walk_over_numbers": ("the same, less of the network over the numbers themselves", "≥ 0"),
    "quickstart_minutes": (
        "minutes that `reshelf quickstart --minutes 10` takes to a served reply, the longer shop",
        "≤ 10",
    ),
    "quickstart_gain": ("nDCG@10 above first-stage order of what it says to serve, the lesser shop", "> 0"),
    "quickstart_served_vs_offline": ("nDCG@10 of requests with ids alone against offline, the larger difference", "0"),
    "score_small_vs_past": ("scoring with the base that ships, times the build before", "≥ 1.8"),
    "score_real_vs_past": ("scoring with a real base in bfloat16, times the build before", "≥ 1.5"),
    "finetune_real_vs_past": ("LoRA steps over 4 bits of the real base, times the build before", "≥ 1.4"),
    "finetune_real_memory_vs_past": ("their peak memory above the model's own, share of the build before", "≤ 0.5"),
    "serve_requests_vs_past": ("requests/s of `reshelf serve` by four closed loops, times the build before", "≥ 1.5"),
    "hostile_control_tokens": ("control tokens that reach the model from such titles", "0"),
    "tenants_in_time": ("replies by the model before the deadline, share of a tenant's beside one that attacks", "≈ 1"),
    "tenants_p99 ms": ("p99 of that tenant, milliseconds; the deadline is 2,000", "≤ 2,020"),
    "tenants_5xx": ("replies 5xx to both", "0"),
    "tenants_memory growth, share": ("memory at the end over that after a quarter of the time, less 1", "≈ 0"),
    "interleaved_equal": ("interleaved experiments of equal orders with p < 0.05, share of 200", "≤ 0.08"),
    "interleaved_better": ("the same of the better order, with as many shoppers as were computed", "≥ 0.9"),
    "ab_equal": ("A/B experiments of equal orders with p < 0.05, share of 200", "≤ 0.08"),
    "ab_better": ("the same of the better order, with as many shoppers as were computed", "≥ 0.9"),
    "memory_gain_simulated": ("nDCG@10 of counts in place of half of a history's tokens, less that of events", "≥ 0"),
    "memory_gain_beauty": ("the same on Amazon Beauty, search", "≥ 0"),
    "nights_share_of_unbiased": (
        "nDCG@10 after three nights of `reshelf retrain`, share of training on unbiased clicks",
        "≥ 0.98",
    ),
    "nights_gain": ("nDCG@10 that the nights gained", "> 0"),
    "dropout_cost": ("nDCG@10 that feature dropout costs lists that lack no number", "≈ 0"),
    "dropout_without_one": ("nDCG@10 lost without the number that costs most, after feature dropout", "≤ 0.02"),
    "no_dropout_without_one": ("the same where there was none, and medians are imputed", ""),
    "dropout_without_all": ("nDCG@10 above first-stage order without any number, after feature dropout", "≥ 0"),
    "no_dropout_without_all": ("the same where there was none, and medians are imputed", ""),
}
"""Ratio to what it says and what was wanted of it."""


def render(results: Sequence[dict[str, Any]]) -> str:
    """The page, from the contents of result files."""
    lines = [
        "# Benchmarks",
        "",
        "One script per claim. `make bench NAME=…` runs it, prints its table and writes `results/NAME.json`;",
        "`python -m benchmarks.leaderboard` makes this page from those files. Contestants take turns within one run,",
        "so a claim is a ratio of medians of the same minutes on the same machine. Peers are installed by the script",
        "into an environment of their own and used as their documentation says. Times are seconds: median",
        "(lowest–highest).",
        "",
        "| claim | wanted | measured | command |",
        "| --- | ---: | ---: | --- |",
    ]
    for result in results:
        for name, (text, wanted) in CLAIMS.items():
            if name in result["ratios"]:
                lines.append(f"| {text} | {wanted} | **{result['ratios'][name]:.3g}** | `{result['command']}` |")
    lines += [
        "",
        "On a GPU: [attention, speed and finetuning](results/gpu.json) by `python -m benchmarks.gpu`; beside other",
        "libraries not yet measured (these scripts run there as they are, with `--shape Qwen3-0.6B`).",
        "",
    ]
    for result in results:
        lines += _section(result)
    return "\n".join(lines)


def _section(result: dict[str, Any]) -> list[str]:
    machine = result["machine"]
    where = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [f"## {result['name']}", "", f"`{result['command']}` · {result['date']} · {where} · {versions}", ""]
    if result["sizes"]:
        sizes = (f"{name} {_cell(value)}" for name, value in result["sizes"].items())
        lines += ["Sizes: " + ", ".join(sizes) + ".", ""]
    columns: list[str] = []
    for row in result["rows"]:
        if list(row) != columns:
            columns = list(row)
            lines += ["", f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
        lines.append("| " + " | ".join(_cell(row[column]) for column in columns) + " |")
    others = {name: value for name, value in result["ratios"].items() if name not in CLAIMS}
    if others:
        lines += ["", "Other ratios: " + ", ".join(f"{name} {value:.3g}" for name, value in others.items()) + "."]
    return [*lines, ""]


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        return f"{value['median']:.4g} ({value['low']:.4g}–{value['high']:.4g})"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return "" if value is None else str(value)


def read_results() -> list[dict[str, Any]]:
    """The result files that are there, in the order of the page."""
    paths = (RESULTS / f"{name}.json" for name in NAMES)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


if __name__ == "__main__":
    README.write_text(render(read_results()), encoding="utf-8")
