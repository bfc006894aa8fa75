# SPDX-License-Identifier: GPL-3.0-or-later
"""A metric is like what its name says: how shares of it make a whole, and whether it may head a report."""

from __future__ import annotations

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import metric_kinds

IDENTIFYING = [
    "model",
    "metric",
    "max_concurrency",
    "concurrency",
    "con",
    "isl",
    "osl",
    "input_len",
    "random_output_len",
    "precision",
    "dtype",
    "quant",
    "tp",
    "tp_size",
    "pp",
    "batch_size",
    "micro_batch_size",
    "num_prompts",
    "request_rate",
    "gpus_per_node",
    "n_gpus",
    "nnodes",
    "dataset",
    "args",
    "backend",
    "gpu_memory_utilization",
]
MEASURED = [
    "performance",
    "status",
    "hostname",
    "node",
    "rank",
    "machine_name",
    "timestamp",
    "time",
    "test_duration",
    "mean_ttft_ms",
    "throughput",
    "peak_memory",
    "total_input_tokens",
    "completed",
    "failed",
    "gpu_utilization",
    "relative_change",
    "loss",
    "eval_loss",
    "mean_accuracy",
    "perplexity",
    "speedup",
    "power_watts",
    "acceptance_length",
    "std_throughput",
    "algbw",
    "interactivity",
]


@pytest.mark.parametrize(
    ("metric", "kind", "headline"),
    [
        ("tokens_per_second", "throughput", 2),
        ("tokens/s", "throughput", 2),
        ("Output token throughput (tok/s)", "throughput", 2),
        ("total_token_throughput_tok_s", "throughput", 2),
        ("throughput_tot", "throughput", 2),
        ("decode_tok_s", "throughput", 2),
        ("tokPerSec", "throughput", 2),
        ("samples_per_sec", "throughput", 2),
        ("requests_per_minute", "throughput", 2),
        ("max_output_tokens_per_s", "throughput", 2),
        ("it/s", "throughput", 2),
        ("TFLOPS", "throughput", 2),
        ("qps", "throughput", 2),
        ("memory_bandwidth_GB/s", "throughput", 2),
        ("failed_requests_per_second", "throughput", 0),
        ("tokens/s/GPU", "share", 1),
        ("tgs", "share", 1),
        ("TFLOP/s/GPU", "share", 1),
        ("images_per_second_per_device", "share", 1),
        ("tokens_per_second_per_user", "share", 1),
        ("throughput_per_gpu", "share", 1),
        ("gpu_utilization", "share", 0),
        ("throughput_utilization", "share", 0),
        ("mfu", "share", 0),
        ("peak throughput (%)", "share", 0),
        ("error_rate", "share", 0),
        ("images", "count", 0),
        ("failed_requests", "count", 0),
        ("total_input_tokens", "count", 0),
        ("num_prompts", "count", 0),
        ("Total generated tokens", "count", 0),
        ("request_rate", "other", 0),
        ("max_concurrency", "other", 0),
        ("Mean TTFT (ms)", "latency", 0),
        ("p99_tpot", "latency", 0),
        ("time_per_token", "latency", 0),
        ("elapsed_time_per_iteration_ms", "latency", 0),
        ("latency", "latency", 0),
        ("step_time", "latency", 0),
        ("duration", "latency", 0),
        ("benchmark_duration", "latency", 0),
        ("s/it", "latency", 0),
        ("peak_memory_GB", "memory", 0),
        ("max vram", "memory", 0),
        ("GiB", "memory", 0),
        ("99.00 percentile latency (ns)", "latency", 0),
        ("std_throughput", "other", 0),
        ("tokens_per_s_std", "other", 0),
        ("throughput_cv", "other", 0),
        ("std_ttft_ms", "latency", 0),
        ("tok_s_user", "share", 1),
        ("tok/s/u", "share", 1),
        ("tokens_per_second_gpu", "share", 1),
        ("tokens_per_sec_per_tp_rank", "share", 1),
        ("tokens/s/socket", "share", 1),
        ("throughput per GPU (TFLOP/s/GPU)", "share", 1),
        ("avg per-rank TFLOPS", "share", 1),
        ("tokens_per_watt", "share", 0),
        ("cost per million tokens", "share", 0),
        ("interactivity", "share", 0),
        ("tokens per second", "throughput", 2),
        ("requests per second (1 node)", "throughput", 2),
        ("TOPS", "throughput", 2),
        ("busbw (GB/s)", "throughput", 2),
        ("algbw", "throughput", 2),
        ("Peak output token throughput (tok/s)", "throughput", 2),
        ("train_samples_per_second", "throughput", 2),
        ("train_runtime", "latency", 0),
        ("elapsed_s", "latency", 0),
        ("wall_clock", "latency", 0),
        ("accuracy", "other", 0),
        ("busbw Gbps", "throughput", 2),
        ("IOPS", "throughput", 2),
        ("token_rate", "throughput", 2),
        ("generation_speed", "throughput", 2),
        ("wps", "throughput", 2),
        ("speed_up", "other", 0),
        ("first_token_ms", "latency", 0),
        ("time_for_100_requests", "latency", 0),
        ("num_timeouts", "other", 0),
        ("p99", "latency", 0),
        ("kv_cache_usage_perc", "share", 0),
        ("slo_attainment", "share", 0),
        ("loss", "other", 0),
    ],
)
def test_a_metric_is_like_what_its_name_says(metric: str, kind: str, headline: int) -> None:
    assert (metric_kinds.kind(metric), metric_kinds.headline(metric)) == (kind, headline)


@pytest.mark.parametrize(
    "column",
    IDENTIFYING,
)
def test_what_says_what_was_measured_tells_rows_apart(column: str) -> None:
    assert metric_kinds.identifies(column)
    assert metric_kinds.identifies(f" {column.upper()} ")


@pytest.mark.parametrize(
    "column",
    MEASURED,
)
def test_what_was_measured_and_where_and_when_does_not(column: str) -> None:
    assert not metric_kinds.identifies(column)


def test_a_column_without_a_name_tells_nothing_apart() -> None:
    assert not metric_kinds.identifies(" ")
