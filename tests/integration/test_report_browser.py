# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a real browser: it is drawn, complains of nothing, fits a phone, and shows hostile words as words."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import render
from helpers import csvs, jobs

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[31mred\u202egnp.exe"
# Measured in the page itself: what sticks out of it to the right. The page has no script, so this one is put beside it.
PROBE = """<script>
const wide = [...document.querySelectorAll('main, section, .time, h1, h2, p, summary')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName);
document.documentElement.dataset.probe = JSON.stringify({
  scroll: document.documentElement.scrollWidth, width: innerWidth, wide, title: document.title,
  background: getComputedStyle(document.body).backgroundColor});
</script>"""


@pytest.fixture(scope="session")
def browser() -> str:
    for name in ("chromium-headless-shell", "chromium"):
        path = shutil.which(name)
        if path:
            return path
    pytest.fail("no browser: apt-get install chromium-headless-shell", pytrace=False)


def run(browser: str, page: Path, *options: str) -> Tuple[str, str]:
    """Return what the browser prints, and its complaints about the page."""
    assert page.exists()
    common = ("--no-sandbox", "--headless", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=2000")
    done = subprocess.run([browser, *common, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def probe(browser: str, path: Path, width: int = 1100, *options: str) -> Dict[str, object]:
    """Return what a script finds in the page; for that the page's own policy against scripts is taken out of a copy."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", (path / "report.html").read_text())
    copy = csvs.write(path / "probed.html", text.replace("</body>", PROBE + "</body>"))
    dom, _ = run(browser, copy, f"--window-size={width},2000", "--dump-dom", *options)
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found, dom[:500]
    answer: Dict[str, object] = json.loads(found.group(1).replace("&quot;", '"'))
    return answer


def colours(picture: bytes) -> set[Tuple[int, ...]]:
    """Return the colours in a PNG of 8 bits a channel."""
    place, data, header = 8, b"", (0, 0, 0, 0)
    while place < len(picture):
        length, kind = struct.unpack(">I4s", picture[place : place + 8])
        body = picture[place + 8 : place + 8 + length]
        header = struct.unpack(">IIBB", body[:10]) if kind == b"IHDR" else header
        data += body if kind == b"IDAT" else b""
        place += length + 12
    width, height, _, kind_of_colour = header
    size = 4 if kind_of_colour == 6 else 3
    return _unfiltered(zlib.decompress(data), width, height, size)


def _unfiltered(data: bytes, width: int, height: int, size: int) -> set[Tuple[int, ...]]:
    found: set[Tuple[int, ...]] = set()
    above, stride = bytearray(width * size), width * size
    for row in range(height):
        start = row * (stride + 1)
        how, line = data[start], bytearray(data[start + 1 : start + 1 + stride])
        for at in range(stride):
            left, up = line[at - size] if at >= size else 0, above[at]
            corner = above[at - size] if at >= size else 0
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda value, guess=guess: abs(guess - value))  # type: ignore[misc]
            line[at] = (line[at] + (0, left, up, (left + up) // 2, paeth)[how]) & 255
        found.update(tuple(line[at : at + 3]) for at in range(0, stride, size * 3))
        above = line
    return found


class Text(html.parser.HTMLParser):
    def __init__(self, dom: str) -> None:
        super().__init__()
        self.names: List[str] = []
        self.seen = ""
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.seen += data


@pytest.mark.parametrize("nodes", [3, 256])
def test_it_renders_without_a_complaint_with_its_table_and_its_timeline(browser: str, tmp_path: Path, nodes: int) -> None:
    render.write(str(jobs.finished(tmp_path, nodes)))
    dom, complaints = run(browser, tmp_path / "report.html", "--dump-dom")
    page = Text(dom)
    assert complaints == ""
    assert "18511.2" in page.seen
    assert page.names.count("rect") > nodes * 7
    assert page.names.count("svg") == 1 + 3  # the timeline, and a bar for each row


def test_it_is_drawn_and_is_dark_where_that_is_wanted(browser: str, tmp_path: Path) -> None:
    render.write(str(jobs.finished(tmp_path)))
    seen = {}
    for name, value in (("dark", "0"), ("light", "1")):
        target = tmp_path / f"{name}.png"
        options = (f"--screenshot={target}", "--window-size=600,600", f"--blink-settings=preferredColorScheme={value}")
        run(browser, tmp_path / "report.html", *options)
        seen[name] = colours(target.read_bytes())
    assert (0xF7, 0xF7, 0xF5) in seen["light"]
    assert (0x4C, 0x78, 0xA8) in seen["light"]  # the result's bars
    assert (0x14, 0x17, 0x1A) in seen["dark"]
    assert (0xF7, 0xF7, 0xF5) not in seen["dark"]


@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("nodes", [3, 256])
def test_nothing_sticks_out_however_long_the_names(browser: str, tmp_path: Path, nodes: int, width: int) -> None:
    long = csvs.table(1, 2, model="m" * 300, metric="tokens_per_" + "second" * 40)
    jobs.finished(tmp_path, nodes, contents=[long] * nodes, failed=True, name="node-with-a-very-long-name." * 6 + "{:03}")
    render.write(str(tmp_path))
    found = probe(browser, tmp_path, width)
    assert found["width"] == width
    assert found["wide"] == []
    assert found["scroll"] == found["width"]


def test_hostile_words_are_words(browser: str, tmp_path: Path) -> None:
    text = csvs.table(1, model='"' + HOSTILE.replace('"', '""') + '"')
    jobs.finished(tmp_path, 2, contents=[text, text], failed=True)
    jobs.diagnose(tmp_path / "node_0", "</pre>" + HOSTILE)
    render.write(str(tmp_path))
    dom, complaints = run(browser, tmp_path / "report.html", "--dump-dom")
    page = Text(dom)
    assert complaints == ""
    assert not {"script", "img"} & set(page.names)
    assert "<script>document.title='owned'</script>" in page.seen
    assert "</pre><script>" in page.seen
    assert "⟨U+202E⟩gnp.exe" in page.seen
    assert probe(browser, tmp_path)["title"] == "Job 4711: job_failed"


def test_should_an_escape_be_forgotten_the_pages_policy_still_lets_nothing_run(browser: str, tmp_path: Path) -> None:
    render.write(str(jobs.finished(tmp_path)))
    broken = (tmp_path / "report.html").read_text().replace("</body>", HOSTILE + "</body>")
    dom, complaints = run(browser, csvs.write(tmp_path / "broken.html", broken), "--dump-dom")
    assert "<title>Job 4711: ok</title>" in dom
    assert "Content Security Policy" in complaints
