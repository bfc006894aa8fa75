# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a metric or a column is like, by its name: how shares of it make a whole, and whether it may head a report.

Source: the metric names of vLLM, SGLang, Primus, Megatron and madengine's own models.
"""

from __future__ import annotations

import re

from .cells import tells_outcome

RATE, COUNT, LATENCY, MEMORY, SHARE, OTHER = "throughput", "count", "latency", "memory", "share", "other"

_UNIT = (
    r"(?:gpus?|xcd|gcd|accelerator|device|user|rank|node|host|socket|card|chip|tile|die|worker|process|engine|instance|replica|core|stream"
    r"|client|session)"
)
_SHARE = re.compile(
    rf"per[ _-]?(?:(?!s(?:ec(?:ond)?)?[ _-])[a-z0-9]{{1,10}}[ _-])?{_UNIT}(?![a-z])|/ ?{_UNIT}(?![a-z])|(?<![a-z])tgs(?![a-z])"
    rf"|(?:per[ _-]?|/ ?|_)s(?:ec(?:ond)?)?[ _-]{_UNIT}[ _)]*$|/ ?s(?:ec)?/ ?[gu](?![a-z])|interactivity"
    r"|per[ _-](?:watt|joule|dollar|usd|(?:1k|1m|1000|million|thousand)(?![a-z]))|/ ?(?:w|watt|j|joule)(?![a-z])"
    r"|util|attainment|(?<![a-z])(mfu|hfu|mbu)(?![a-z])|%|percent(?!ile)|(?<![a-z])(?:pct|perc)(?![a-z])|(?<![a-z])ratio|fraction|efficiency"
    r"|(error|failure|success|hit|miss|acceptance|accept|drop|cache)[ _-]rate"
)
# How far numbers lie apart is no part of their sum.
_SPREAD = re.compile(r"(?<![a-z])(?:std|std[ _-]?(?:dev|err)\w*|stdev|variance|var|cv|deviation|ci95|iqr)(?![a-z])")
_PERCENTAGE = re.compile(r"util|%|percent(?!ile)|(?<![a-z])pct|(?<![a-z])ratio|fraction|efficiency")
_RATE = re.compile(
    r"per[ _-]?s(ec(ond)?)?s?(?![a-z])|/ ?s(ec(ond)?)?s?(?![a-z])|(per[ _-]?|/ ?)(min(ute)?|h(our)?|day)(?![a-z])"
    r"|(tok(en)?s?|req(uest)?s?|samples?|seqs?|sequences?|images?|imgs?|frames?|it(er)?s?|steps?|[kmgt]?i?b(ytes)?)_?_s(ec)?(?![a-z])"
    r"|fl?ops|throughput|bandwidth|goodput|(?<![a-z])(?:tps|qps|rps|fps|ips|wps|tgs|[kmgtp]?ops|iops|[kmgt]i?bps|(?:alg|bus)bw)(?![a-z])"
    r"|(?<![a-z])(?:tok(?:en)?|sample|image|frame|step|iteration|sequence)s?[ _-]rate(?![a-z])|speed(?![ _-]?up)(?![a-z])"
)
_WAIT = re.compile(
    r"latency|ttft|tpot|(?<![a-z])(itl|e2el?)(?![a-z])|time[ _-](per|to)"
    r"|(?<![a-z/_])(?<!per[ _-])[mu]?s(ec(ond)?s?)?[ _-]?(per|/)|(?<![a-z])p(?:50|90|95|99|999)$"
)
_MEMORY = re.compile(r"(?<![a-z])v?(ram|mem)(?![a-z])|memory|(?<![a-z])[kmgt]i?b(ytes)?(?![a-z])")
_COUNT = re.compile(
    r"tokens?(?![a-z])|samples|images|requests|queries|prompts|sequences|steps|iterations|epochs|(?<![a-z])tok(?![a-z])|errors|failures"
)
_TIME = re.compile(r"time(?!out)|duration|elapsed|wall[ _-]?clock|seconds|delay|(?<![a-z])(ms|us|ns|sec)(?![a-z])")
_NOT_MEASURED = re.compile(r"expected|baseline|target|reference|theoretical|roofline|golden|(?<![a-z])(?:ref|goal)(?![a-z])")
_OF_A_PART = re.compile(r"warm[ _-]?up|(?<![a-z])(?:min(?:imum)?|worst|p\d{1,3}|percentile|median)(?![a-z])")
_FAILING = re.compile(r"fail|error|abort|drop|reject|timeout|retr(y|ie)|cancel")
_SETTING = re.compile(
    r"^(max|min|target|requested|num|random|sonnet|input|output)_?.*(concurrency|len(gth)?|batch|size)|request[ _-]rate([ _-]rps)?$"
    r"|^(gpus?|n?procs?|tasks|ranks|tp|(\w+[ _-])?batch([ _-]size)?|m?bs)[ _-]per[ _-](node|gpu|device|rank|replica)$"
    r"|^per[ _-](gpu|device)[ _-](\w+[ _-])?batch([ _-]size)?$|(^|[ _-])size([ _-]([kmgt]?i?b|bytes))?$|^time[ _-]?(limit|out)$"
    r"|^target[ _-]|[ _-]target$|^(memory|tensor)[ _-]format$|[ _-](offload|swap)[ _-]g?i?b$"
    r"|^max[ _-](memory|model|num|new|batched)[ _-](?!alloc|reserv|us)|^(gpu_memory_utilization|mem_fraction_static)$"
)
_MEASURED_COUNT = re.compile(
    r"^(total|completed|successful|failed|generated|finished|measured|processed)[ _-]|[ _-](completed|generated|failed|processed|finished)$"
)
# A run's own name as often as that of what it measured.
_NAME_OF_RUN = re.compile(
    r"(?:\w+[ _-])?(?:run|experiment|exp|test|trial)(?:[ _-]?(?:name|id|tag|label|no|number))?"
    r"|(?:\w+[ _-])?(?:cmd|command)(?:[ _-]?line)?|name|id|tag|label|gpus|nodes|devices|hosts"
)
_WHERE = (
    r"(?:(?:slurm|docker|inference|head|compute|serving|local)[ _-])?"
    r"(?:node|host|machine|server|gpu|device|worker|replica|instance|client|proc(?:ess)?|container)[ _-]?"
    r"(?:name|rank|ids?|idx|index|serial|uuid|list)?",
    r"(?:slurm[ _-])?(?:job|run|step|task|request|session|image)[ _-]?ids?",
    r"(?:node|host|machine|server|gpu|device)s[ _-]?(?:list|names?|ids)|(?:(?:global|world)[ _-]?)?rank",
    r"(?:\w+[ _-])?(?:uuid|pid|ip|addr(?:ess)?|port|url|uri|endpoint)|build|session",
    r"(?:(?:git|docker|image|commit|repo|build)[ _-])?(?:sha(?:256)?|hash|digest|commit|serial)",
    r"(?:(?:log|out(?:put)?|results?|save)[ _-])?(?:file|path|dir|directory|folder|file[ _-]?name|csv)|log",
    r"unnamed: \d+|index|idx|#|no|row(?:[ _-]?(?:no|number))?",
)
_WHEN = (
    r"(?:\w+[ _-])?(?:start(?:ed)?|end(?:ed)?|finish(?:ed)?|created?|updated?|launched?)(?:[ _-](?:at|on|time|date))?|begin",
    r"(?:\w+[ _-])?(?:date|time)(?:[ _-]?(?:stamp|time))?|build_(?:number|duration)|test_duration|data_size|data_download_duration",
)
_OUTCOME = (
    r"(?:\w+[ _-])?(?:return|exit|status)[ _-]?code|rc|attempt|seed|result|state|comment|notes?|reason|message|completed|failed",
    r"(?:\w+[ _-])?(?:status|errors?|err|failures|warnings|retries|timeouts)|valid|(?:is[ _-])?ok|success(?:ful)?|passed",
)
_FIGURES = (
    r"relative_change|mean|median|min|max|avg|average|std(?:ev)?|var(?:iance)?|scaling",
    r"(?:gpu[ _-])?(?:[smf]clk|clock|fan|voltage|current)(?:[ _-](?:mhz|rpm|v|a))?|(?:avg_|mean_)?(?:power_)?watts|temp",
    r"(?:\w+[ _-])?(?:loss|accuracy|score|power|energy|temperature|perplexity|bleu|speed_?up)(?:[ _-](?:k?w|k?j|wh|c|avg|max|mean))?",
    r"ppl|wer|cer|f1|rouge\w*|accept(?:ance)?[ _-]len(?:gth)?",
)
# What says where, when and with what outcome a row was measured, or is a figure itself, and not what was measured.
_OF_THE_RUN = re.compile("|".join((*_WHERE, *_WHEN, *_OUTCOME, *_FIGURES)))


def kind(metric: str) -> str:
    """Return what *metric* is like: ``throughput``, ``count``, ``latency``, ``memory``, ``share`` or ``other``.

    A ``share`` is per GPU, per user or a percentage: the whole has no more of it than its parts.

    >>> kind("tokens_per_second"), kind("Mean TTFT (ms)"), kind("peak_memory_GB"), kind("tok/s/GPU"), kind("loss")
    ('throughput', 'latency', 'memory', 'share', 'other')
    """
    text = _words(metric)
    if _SPREAD.search(text) and not _WAIT.search(text):
        return OTHER
    ordered = ((_SHARE, SHARE), (_RATE, RATE), (_WAIT, LATENCY), (_MEMORY, MEMORY), (_TIME, LATENCY), (_COUNT, COUNT))
    return next((name for pattern, name in ordered if pattern.search(text)), OTHER)


def headline(metric: str) -> int:
    """Return how well *metric* heads a report: 2 for a rate or throughput of the whole, 1 for one per GPU, per user or of a part, 0 for no
    rate and for one that was not measured.

    >>> headline("tok/s"), headline("tokens_per_second_per_gpu"), headline("failed_requests"), headline("Total input tokens")
    (2, 1, 0, 0)
    """
    text = _words(metric)
    if not _RATE.search(text) or any(pattern.search(text) for pattern in (_SPREAD, _FAILING, _WAIT, _SETTING, _NOT_MEASURED)):
        return 0
    if kind(metric) == RATE:
        return 1 if _OF_A_PART.search(text) else 2
    return int(not _PERCENTAGE.search(text))


def identifies(column: str) -> bool:
    """Say whether *column* of a CSV tells what was measured (a concurrency, a length, a precision), and is no measurement itself.

    >>> [identifies(name) for name in ("max_concurrency", "input_len", "precision", "mean_ttft_ms", "hostname", "performance")]
    [True, True, True, False, False, False]
    """
    text = _words(column)
    if is_setting(column):
        return True
    if not text or text == "performance" or is_of_the_run(column):
        return False
    if _MEASURED_COUNT.search(text) or _SPREAD.search(text):
        return False
    return kind(column) in (OTHER, COUNT)


def is_setting(column: str) -> bool:
    """Say whether *column* is known to hold what somebody has set, whatever its values look like."""
    return _SETTING.search(_words(column)) is not None


def is_of_the_run(column: str) -> bool:
    """Say whether *column* tells where, when or with what outcome a row was measured."""
    return _OF_THE_RUN.fullmatch(_words(column)) is not None or tells_outcome(column)


def is_doubtful(column: str) -> bool:
    """Say whether *column* may be a parameter or a measurement, or a run's own name: what it holds must tell.

    >>> [is_doubtful(name) for name in ("output_tokens", "run_name", "num_prompts", "precision")]
    [True, True, True, False]
    """
    return not is_setting(column) and (kind(column) == COUNT or _NAME_OF_RUN.fullmatch(_words(column)) is not None)


def _words(name: str) -> str:
    """Return *name* in small letters; ``tokPerSec`` has three words as ``tok_per_sec`` has."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name.strip()).lower()
