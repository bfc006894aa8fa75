# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the HTML report looks: a Jinja2 template and its style sheet.

They are Python strings since Ansible carries nothing but Python files of a library to a target. Nothing in the page is
loaded and nothing in it runs, and its own policy says so, should an escape ever be forgotten.

Source: the columns and colours are ours; a test holds the phases' colours apart, also for colour-blind readers (Machado et
al. 2009), in both modes.
"""

from __future__ import annotations

from .phases import COLOURS

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1d2126; --soft: #5d666f; --line: #e3e5e6; --track: #eef0f0; --code: #f2f3f2;
  --good: #1c7c54; --good-back: #e2f2ea; --warn: #8a5a00; --warn-back: #fbefd5; --bad: #b3261e; --bad-back: #fbe6e4;
  --bar: #4c78a8;
  --c0: #c098ac; --c1: #de580f; --c2: #31308f; --c3: #712e22; --c4: #6ba6fe; --c5: #fa8f7a; --c6: #583953; --c7: #4c60eb;
  --c8: #a5e742; --c9: #846cb1; --c10: #af646e; --c11: #a02b0d; --c12: #2addf8; --c13: #fcd180; --c14: #c55d4e;
  --c15: #95628b; --c16: #a3af46; --c17: #79337c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2024; --ink: #e6e8ea; --soft: #9aa4ad; --line: #2d3338; --track: #262b30; --code: #15181b;
    --good: #6fd3a4; --good-back: #17352a; --warn: #f0c26a; --warn-back: #3a2f16; --bad: #ff9d94; --bad-back: #431f1c;
    --bar: #6d9bd1;
    --c0: #6ad69d; --c1: #d666ef; --c2: #b93d06; --c3: #f3f045; --c4: #72808e; --c5: #cce9ff; --c6: #81503d; --c7: #f29f4e;
    --c8: #a309a4; --c9: #ad8b5a; --c10: #b9b2ed; --c11: #3c52dc; --c12: #92c0bd; --c13: #2bfc8a; --c14: #9d7ebf;
    --c15: #c0bc00; --c16: #eb1982; --c17: #a5fcdf;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.05rem; font-weight: 600; margin: 0; color: var(--soft); }
h2 { font-size: 1.05rem; font-weight: 650; margin: 0 0 .75rem; }
p { margin: 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem 1.4rem; margin-top: 1.1rem;
  min-width: 0; }
.top { display: flex; flex-wrap: wrap; gap: .4rem .9rem; align-items: center; }
.verdict { font-weight: 650; font-size: .9rem; padding: .12rem .7rem; border-radius: 99px; }
.ok { color: var(--good); background: var(--good-back); }
.partial, .empty { color: var(--warn); background: var(--warn-back); }
.missing, .job_failed { color: var(--bad); background: var(--bad-back); }
.number { font-size: clamp(2.2rem, 8vw, 3.4rem); line-height: 1.15; font-weight: 650; letter-spacing: -.02em; margin-top: .8rem;
  font-variant-numeric: tabular-nums; }
.void { color: var(--soft); font-size: clamp(1.5rem, 5vw, 2rem); font-weight: 500; }
.number small { font-size: 1.05rem; font-weight: 500; letter-spacing: 0; color: var(--soft); }
.soft { color: var(--soft); }
.small { font-size: .875rem; }
td, th, p, summary, .number, .name { overflow-wrap: anywhere; unicode-bidi: isolate; }
.scroll { overflow-x: auto; margin: 0 -.4rem; padding: 0 .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; padding: .25rem .9rem .4rem 0;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
td { padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; min-width: 6.2rem; max-width: 26rem; }
td:first-child { min-width: 7.8rem; }
#candidates td:last-child { min-width: 11rem; }
td.right { min-width: 0; }
tr:last-child td { border-bottom: 0; }
.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.value { min-width: 8rem; }
td.value svg { display: block; margin-top: .25rem; }
.chosen td:first-child { font-weight: 600; }
.mark { color: var(--good); }
code, pre { font-family: ui-monospace, "SFMono-Regular", Menlo, "DejaVu Sans Mono", monospace; font-size: .8rem; }
code { overflow-wrap: anywhere; }
pre { margin: .5rem 0 .25rem; padding: .8rem; background: var(--code); border-radius: 8px; overflow: auto; max-height: 26rem;
  line-height: 1.45; tab-size: 4; unicode-bidi: isolate; direction: ltr; }
details { border-top: 1px solid var(--line); padding: .45rem 0; }
details:first-of-type { border-top: 0; }
details details { margin-left: .9rem; }
summary { cursor: pointer; padding: .1rem 0; }
summary:hover { color: var(--bar); }
.fault { border-left: 3px solid var(--bad); padding: .1rem 0 .1rem .8rem; margin-top: .6rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 0 0 .9rem; padding: 0; list-style: none; font-size: .82rem;
  color: var(--soft); }
.legend i, .dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .4rem; }
.time { display: grid; grid-template-columns: minmax(3rem, max-content) 1fr; column-gap: .8rem; }
.names { max-width: min(11rem, 26vw); font-size: .8rem; color: var(--soft); text-align: right; padding-top: 22px; }
.names span { display: block; height: calc(var(--row) * var(--every)); line-height: max(var(--row), 12px); overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; font-size: min(.8rem, max(10px, calc(var(--row) * .85))); }
.time svg { display: block; overflow: visible; }
.time text { fill: var(--soft); font-size: 11px; }
.time .track { fill: var(--track); }
.time .break { fill: var(--card); }
.time .fold { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 3; opacity: .6; }
.time .failed { stroke: var(--bad); stroke-width: 2; }
.time .tick { stroke: var(--line); stroke-width: 1; }
@media (max-width: 40rem) {
  main { padding: 1rem .7rem 3rem; }
  section { padding: 1rem; border-radius: 10px; }
  td, th { padding-right: .6rem; }
  .time { column-gap: .5rem; }
  .wide { display: none; }
}
@media print { body { background: none; } section { break-inside: avoid; } pre { max-height: none; } }
""" + "".join(f".c{number} {{ fill: var(--c{number}); background: var(--c{number}); }}\n" for number in range(COLOURS))

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>Job {{ job_id }}: {{ verdict }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
<section id="verdict">
  <div class="top"><h1>Job {{ job_id }}</h1><span class="verdict {{ verdict }}">{{ verdict.replace("_", " ") }}</span>
  {% if ending %}<span class="small soft">{{ ending }}</span>{% endif %}</div>
  {% if best %}
  <p class="number{{ " void" if verdict == "job_failed" }}" title="{{ best.performance }}">
    {{ best.number }} <small>{{ best.metric }}</small></p>
  <p class="soft">{{ best.model }}, measured by {{ "all nodes" if best.node == "all" else best.node }}
    {%- if verdict == "job_failed" %}, before the job failed: no result{% endif %}</p>
  {% endif %}
  <p class="small soft" style="margin-top:.6rem">{{ reason }}</p>
  {% if images | length == 1 %}
  <p class="small soft">{{ "Every node" if images[0].count == nodes | length else images[0].nodes }} ran <code>{{ images[0].image }}</code>
  {% if images[0].image_id %}
  <code title="{{ images[0].image_id }}">{{ images[0].image_id | truncate(20, true, "…", 0) }}</code>{% endif %}</p>
  {% endif %}
</section>

{% if faults or diagnoses %}
<section id="faults">
  <h2>What went wrong</h2>
  {% for item in diagnoses[:8] %}
  <div class="fault"><p>{{ item.what }}</p><p class="small soft">{{ item.nodes }}</p></div>
  {% endfor %}
  {% for fault in faults %}
  <div class="fault"><p>{{ fault.what }}</p><p class="small soft">{{ fault.nodes }}</p></div>
  {% endfor %}
</section>
{% endif %}

{% macro result_table(table) %}
  <div class="scroll"><table>
  <thead><tr>{% for column in table.columns %}<th{% if loop.index0 == table.at %} class="right"{% endif %}>{{ column }}</th>
    {% endfor %}</tr></thead>
  <tbody>
  {% for row in table.rows %}
  <tr>{% for cell in row.cells %}
    {% if loop.index0 == table.at %}<td class="right value">{{ cell }}{% if row.bar is not none %}
      <svg width="100%" height="6" role="img" aria-label="{{ row.bar }} % of the largest">
      <rect width="100%" height="6" rx="3" fill="var(--track)"/><rect width="{{ row.bar }}%" height="6" rx="3" fill="var(--bar)"/>
      </svg>{% endif %}</td>
    {% else %}<td>{{ cell }}</td>{% endif %}
  {% endfor %}</tr>
  {% endfor %}
  </tbody></table></div>
  {% if table.more %}<p class="small soft">and {{ table.more }} more rows in {{ table.name }}</p>{% endif %}
{% endmacro %}
{% if table.rows %}
<section id="result">
  <h2>Result <span class="soft small">{{ table.name }}</span></h2>
  {{ result_table(table) }}
  {% if merged %}
  <details><summary>How the rows were merged</summary><table>
  <thead><tr><th>model</th><th>metric</th><th>how</th><th class="right">nodes</th></tr></thead>
  {% for row in merged %}<tr><td>{{ row.model }}</td><td>{{ row.metric }}</td><td>{{ row.how }}</td><td class="right">{{ row.nodes }}</td>
    </tr>
  {% endfor %}</table></details>
  {% endif %}
</section>
{% endif %}

{% for model in further %}
<section class="further">
  <h2>Result <span class="soft small">{{ model.name }}: {{ model.verdict }}</span></h2>
  {% if model.best %}<p class="number">{{ model.best.number }} <small>{{ model.best.metric }}</small></p>
  {% else %}<p class="soft">{{ model.reason }}</p>{% endif %}
  {% if model.table.rows %}{{ result_table(model.table) }}{% endif %}
</section>
{% endfor %}

{% if legend %}
<section id="timeline">
  <h2>Where the time went</h2>
  <ul class="legend">{% for item in legend %}<li><i class="c{{ item.colour }}"></i>{{ item.name }}</li>{% endfor %}</ul>
  {% set height = nodes | length * axis.row %}
  <div class="time" style="--row:{{ axis.row }}px;--every:{{ axis.every }}">
    <div class="names">{% for node in nodes[::axis.every] %}<span title="{{ node.name }}">{{ node.name }}</span>{% endfor %}</div>
    <svg width="100%" height="{{ height + 26 }}" role="img" aria-label="A bar for each phase of each node">
      {% for tick in axis.ticks %}
      <line class="tick" x1="{{ tick.left }}%" x2="{{ tick.left }}%" y1="16" y2="{{ height + 22 }}"/>
      {% if loop.first or (tick.label != "0" and tick.left < 95) %}
        <text x="{{ tick.left }}%" y="11"{% if not loop.first %} text-anchor="middle"{% endif %}>{{ tick.label }}</text>{% endif %}
      {% endfor %}
      {% for node in nodes %}
      {% set y = loop.index0 * axis.row + 22 %}
      {% set bar = axis.row - (4 if axis.row > 10 else 2) %}
      <rect class="track" x="0" width="100%" y="{{ y }}" height="{{ bar }}" rx="2"/>
      {% for phase in node.phases | rejectattr("is_folded") | sort(attribute="seconds", reverse=true) %}
      <rect class="c{{ phase.colour }}{{ "" if phase.is_ok else " failed" }}" x="{{ phase.left }}%" width="{{ phase.width }}%"
        y="{{ y }}" height="{{ bar }}" rx="1.5"><title>{{ node.name }}: {{ phase.name }} {{ phase.took }}
        {{- ", " ~ phase.bytes if phase.bytes else "" }}{{ "" if phase.is_ok else ", " ~ phase.result }}</title></rect>
      {% endfor %}
      {% endfor %}
      {% for fold in axis.breaks %}
      <rect class="break" x="{{ fold.left + 0.4 }}%" width="{{ fold.width - 0.8 }}%" y="18" height="{{ height + 6 }}"/>
      <line class="fold" x1="{{ fold.left + fold.width / 2 }}%" x2="{{ fold.left + fold.width / 2 }}%" y1="20" y2="{{ height + 20 }}"/>
      <text x="{{ fold.left + fold.width / 2 }}%" y="11" text-anchor="middle">{{ fold.label }}</text>
      {% endfor %}
    </svg>
  </div>
  <p class="small soft" style="margin:.7rem 0 1rem">Each node by its own clock. Time in which no phase ran is folded.</p>
  <div class="scroll"><table id="phases">
  <thead><tr><th>phase</th><th class="right wide">times</th><th class="right wide">fastest</th><th class="right">median</th>
    <th class="right">slowest</th><th>slowest on</th></tr></thead>
  <tbody>{% for phase in phases %}<tr><td><span class="dot c{{ phase.colour }}"></span>{{ phase.name }}</td>
    <td class="right wide">{{ phase.count }}</td><td class="right wide">{{ phase.fastest }}</td><td class="right">{{ phase.median }}</td>
    <td class="right">{{ phase.slowest }}</td><td>{{ phase.slowest_node }}</td></tr>
  {% endfor %}</tbody></table></div>
  {% if folded %}<p class="small soft">below 1 ms: {{ folded }}</p>{% endif %}
</section>
{% endif %}

{% macro candidate_rows(items) %}
  {% for item in items %}
  <tr{% if item.is_chosen %} class="chosen"{% endif %}><td>{% if item.is_chosen %}
    <span class="mark" title="chosen">✓</span> {% endif %}{{ item.path }}</td><td>{{ item.node }}</td>
    <td class="right">{{ item.rows }}</td><td class="right">{{ item.scored }}</td><td>{{ item.reason }}</td></tr>
  {% endfor %}
{% endmacro %}
{% set head %}<thead><tr><th>file</th><th>node</th><th class="right">rows</th><th class="right">count</th><th>why</th></tr>
  </thead>{% endset %}
{% if candidates or lacking or outside %}
<section id="candidates">
  <h2>Candidates <span class="soft small">{{ policy }}</span></h2>
  {% if candidates %}
  <div class="scroll"><table>{{ head }}<tbody>{{ candidate_rows(candidates[:8]) }}</tbody></table></div>
  {% if candidates | length > 8 %}
  <details><summary>{{ candidates | length - 8 }} more</summary><div class="scroll">
    <table>{{ head }}<tbody>{{ candidate_rows(candidates[8:]) }}</tbody></table></div></details>
  {% endif %}
  {% endif %}
  {% if lacking %}
  <details{% if lacking | length <= 8 %} open{% endif %}>
    <summary>{{ lacking | length }} {{ "node lacks" if lacking | length == 1 else "nodes lack" }} data</summary>
  <table>{% for item in lacking %}<tr><td>{{ item.node }}</td><td>{{ item.reason }}</td></tr>{% endfor %}</table></details>
  {% endif %}
  {% if outside %}
  <p class="soft">Outside this run: {{ outside }}</p>
  {% endif %}
  {% if elsewhere %}
  <details><summary>Further files of {{ elsewhere | length }} {{ "node" if elsewhere | length == 1 else "nodes" }} stayed there</summary>
  <table>{% for place in elsewhere %}<tr><td>{{ place }}</td></tr>{% endfor %}</table></details>
  {% endif %}
</section>
{% endif %}

{% if decisions %}
<section id="decisions">
  <h2>Several images had one name</h2>
  {% for item in decisions %}<p class="small">{{ item.nodes }}: {{ item.what }}</p>
  {% endfor %}
</section>
{% endif %}

{% if detours %}
<section id="detours">
  <h2>An image went another way than the first</h2>
  {% for item in detours %}<p class="small">{{ item.nodes }}: {{ item.what }}</p>
  {% endfor %}
</section>
{% endif %}

{% if images | length > 1 %}
<section id="images">
  <h2>The nodes did not run the same image</h2>
  <div class="scroll"><table><thead><tr><th>image</th><th>id</th><th>nodes</th></tr></thead>
  {% for item in images %}<tr><td>{{ item.image }}</td><td><code>{{ item.image_id }}</code></td><td>{{ item.nodes }}</td></tr>{% endfor %}
  </table></div>
</section>
{% endif %}

{% if nodes %}
<section id="nodes">
  <h2>Nodes</h2>
  {% for node in nodes %}
  <details{% if node.diagnosis and nodes | length <= 8 %} open{% endif %}>
    <summary><span class="name">{{ node.name }}</span> <span class="soft small">rank {{ node.rank }}, {{ node.files }}
      {{ "file" if node.files == 1 else "files" }}, {{ node.size }}
      {%- if node.has_failed and node.ending %}, {{ node.ending }}{% endif %}</span></summary>
    {% if node.diagnosis %}<div class="fault"><p>{{ node.diagnosis }}</p></div>{% endif %}
    {% if node.phases %}
    <div class="scroll"><table><thead><tr><th>phase</th><th class="right">time</th><th class="right">bytes</th><th>outcome</th></tr>
      </thead>
    {% for phase in node.phases | rejectattr("is_folded") %}<tr><td><span class="dot c{{ phase.colour }}"></span>{{ phase.name }}</td>
      <td class="right">{{ phase.took }}</td><td class="right">{{ phase.bytes }}</td><td>{{ phase.fault or phase.result }}</td></tr>
    {% endfor %}</table></div>
    {% if node.folded %}<p class="small soft">below 1 ms: {{ node.folded }}</p>{% endif %}
    {% endif %}
    {% if node.skipped %}<details><summary class="small">Files left behind</summary><table>{% for item in node.skipped %}<tr>
      <td>{{ item.path }}</td><td>{{ item.reason }}</td></tr>{% endfor %}</table></details>{% endif %}
    {% for log in node.logs %}<details><summary class="small">{{ log.name }}</summary><pre>{{ log.tail }}</pre></details>
    {% endfor %}
  </details>
  {% endfor %}
</section>
{% endif %}
</main>
</body>
</html>
"""
