# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a metric or a column is like, by its name: how shares of it make a whole, and whether it may head a report.

Source: the metric names of vLLM, SGLang, Primus, Megatron and madengine's own models.
"""

from __future__ import annotations

import re

RATE, COUNT, LATENCY, MEMORY, SHARE, OTHER = "throughput", "count", "latency", "memory", "share", "other"

_UNIT = (
    r"(?:gpus?|xcd|gcd|accelerator|device|user|rank|node|host|socket|card|chip|tile|die|worker|process|engine|instance|replica|core|stream"
    r"|client|session)"
)
_SHARE = re.compile(
    rf"per[ _-]?(?:(?!s(?:ec(?:ond)?)?[ _-])[a-z0-9]{{1,10}}[ _-])?{_UNIT}(?![a-z])|/ ?{_UNIT}(?![a-z])|(?<![a-z])tgs(?![a-z])"
    rf"|(?:per[ _-]?|/ ?|_)s(?:ec(?:ond)?)?[ _-]{_UNIT}[ _)]*$|/ ?s(?:ec)?/ ?[gu](?![a-z])|interactivity"
    r"|per[ _-](?:watt|joule|dollar|usd|(?:1k|1m|1000|million|thousand)(?![a-z]))|/ ?(?:w|watt|j|joule)(?![a-z])"
    r"|util|(?<![a-z])(mfu|hfu|mbu)(?![a-z])|%|percent(?!ile)|(?<![a-z])pct(?![a-z])|(?<![a-z])ratio|fraction|efficiency"
    r"|(error|failure|success|hit|miss|acceptance|accept|drop|cache)[ _-]rate"
)
# How far numbers lie apart is no part of their sum.
_SPREAD = re.compile(r"(?<![a-z])(?:std|std[ _-]?(?:dev|err)\w*|stdev|variance|var|cv|deviation|ci95|iqr)(?![a-z])")
_PERCENTAGE = re.compile(r"util|%|percent(?!ile)|(?<![a-z])pct|(?<![a-z])ratio|fraction|efficiency")
_RATE = re.compile(
    r"per[ _-]?s(ec(ond)?)?s?(?![a-z])|/ ?s(ec(ond)?)?s?(?![a-z])|(per[ _-]?|/ ?)(min(ute)?|h(our)?|day)(?![a-z])"
    r"|(tok(en)?s?|req(uest)?s?|samples?|seqs?|sequences?|images?|imgs?|frames?|it(er)?s?|steps?|[kmgt]?i?b(ytes)?)_?_s(ec)?(?![a-z])"
    r"|fl?ops|throughput|bandwidth|goodput|(?<![a-z])(?:tps|qps|rps|fps|ips|tgs|[kmgtp]?ops|(?:alg|bus)bw)(?![a-z])"
)
_WAIT = re.compile(
    r"latency|ttft|tpot|(?<![a-z])(itl|e2el?)(?![a-z])|time[ _-](per|to)"
    r"|(?<![a-z/_])(?<!per[ _-])[mu]?s(ec(ond)?s?)?[ _-]?(per|/)"
)
_MEMORY = re.compile(r"(?<![a-z])v?(ram|mem)(?![a-z])|memory|(?<![a-z])[kmgt]i?b(ytes)?(?![a-z])")
_COUNT = re.compile(
    r"tokens?(?![a-z])|samples|images|requests|queries|prompts|sequences|steps|iterations|epochs|(?<![a-z])tok(?![a-z])|errors|failures"
)
_TIME = re.compile(r"time|duration|elapsed|wall[ _-]?clock|seconds|delay|(?<![a-z])(ms|us|ns|sec)(?![a-z])")
_FAILING = re.compile(r"fail|error|abort|drop|reject|timeout|retr(y|ie)|cancel")
_SETTING = re.compile(
    r"^(max|min|target|requested|num|random|sonnet|input|output)_?.*(concurrency|len(gth)?|batch|size)|request[ _-]rate$"
    r"|^(gpus?|n?procs?|tasks|ranks|(micro[ _-])?batch([ _-]size)?)[ _-]per[ _-](node|gpu|device|rank)$"
    r"|^(gpu_memory_utilization|mem_fraction_static)$"
)
_MEASURED_COUNT = re.compile(r"^(total|completed|successful|failed|generated|finished|measured)[ _-]|[ _-](completed|generated|failed)$")
# What says where, when and with what outcome a row was measured, and not what was measured.
_OF_THE_RUN = re.compile(
    r"(node|host|machine|server|gpu|device)s?([ _-]?(name|rank|id|ids|list))?|rank|local[ _-]?rank|pid|job[ _-]?id|run[ _-]?id|uuid"
    r"|completed|failed|date|time|timestamp|started?|ended?|finished|begin|end|status|result|state|error|reason|message|comment|notes?|seed"
    r"|relative_change|build_(number|duration)|test_duration|data_size|data_download_duration|git_commit|docker_sha|log(_?(file|path|dir))?"
    r"|std(ev)?|var(iance)?|(\w+[ _-])?(loss|accuracy|score|power|energy|temperature|perplexity|bleu|speed_?up)|temp"
    r"|ppl|wer|cer|f1|rouge\w*|(avg_|mean_)?(power_)?watts|accept(ance)?[ _-]len(gth)?"
)


def kind(metric: str) -> str:
    """Return what *metric* is like: ``throughput``, ``count``, ``latency``, ``memory``, ``share`` or ``other``.

    A ``share`` is per GPU, per user or a percentage: the whole has no more of it than its parts.

    >>> kind("tokens_per_second"), kind("Mean TTFT (ms)"), kind("peak_memory_GB"), kind("tok/s/GPU"), kind("loss")
    ('throughput', 'latency', 'memory', 'share', 'other')
    """
    text = _words(metric)
    if _SPREAD.search(text) and not _WAIT.search(text):
        return OTHER
    ordered = ((_SHARE, SHARE), (_RATE, RATE), (_WAIT, LATENCY), (_MEMORY, MEMORY), (_COUNT, COUNT), (_TIME, LATENCY))
    return next((name for pattern, name in ordered if pattern.search(text)), OTHER)


def headline(metric: str) -> int:
    """Return how well *metric* heads a report: 2 for a rate or throughput of the whole, 1 for one per GPU or user, 0 for no rate.

    >>> headline("tok/s"), headline("tokens_per_second_per_gpu"), headline("failed_requests"), headline("Total input tokens")
    (2, 1, 0, 0)
    """
    text = _words(metric)
    if not _RATE.search(text) or _SPREAD.search(text) or _FAILING.search(text) or _WAIT.search(text) or _SETTING.search(text):
        return 0
    like = kind(metric)
    return 2 if like == RATE else int(not _PERCENTAGE.search(text))


def identifies(column: str) -> bool:
    """Say whether *column* of a CSV tells what was measured (a concurrency, a length, a precision), and is no measurement itself.

    >>> [identifies(name) for name in ("max_concurrency", "input_len", "precision", "mean_ttft_ms", "hostname", "performance")]
    [True, True, True, False, False, False]
    """
    text = _words(column)
    if not text or text == "performance" or _OF_THE_RUN.fullmatch(text):
        return False
    if is_setting(column):
        return True
    if _MEASURED_COUNT.search(text) or _SPREAD.search(text):
        return False
    return kind(column) in (OTHER, COUNT)


def is_setting(column: str) -> bool:
    """Say whether *column* is known to hold what somebody has set, whatever its values look like."""
    return _SETTING.search(_words(column)) is not None


def _words(name: str) -> str:
    """Return *name* in small letters; ``tokPerSec`` has three words as ``tok_per_sec`` has."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name.strip()).lower()
