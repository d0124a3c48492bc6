"""Lighthouse's marks for a page, from several runs: one alone says as much about the machine as about the page."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from memo_testing.chromium import ARGUMENTS
from memo_testing.web_tools import run

CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
RUNS = 3
SECONDS = 120


def marks(url: str, headers: dict[str, str], folder: Path, name: str) -> dict[str, float]:
    """What a page is worth on a phone: Lighthouse's own preset, network and processor slowed by calculation.

    Only the mark for performance differs from run to run, so the others are asked for once.

    Args:
        url: the page; on loopback, because a browser trusts no other address without TLS.
        headers: to send with every request, such as a session's cookie.
        folder: for the reports.
        name: the page's, in the reports' names.

    Returns:
        By category from 0 to 100; of the runs' marks the median.
    """
    sent = folder / f"lighthouse-{name}-headers.json"
    sent.write_text(json.dumps(headers), encoding="utf-8")
    found: dict[str, list[float]] = {category: [] for category in CATEGORIES}
    try:
        for number in range(RUNS):
            wanted = CATEGORIES[:1] if number else CATEGORIES
            report = folder / f"lighthouse-{name}-{number}.json"
            done = run(
                "lighthouse",
                *(url, "--quiet", "--only-categories", ",".join(wanted), "--extra-headers", str(sent)),
                *("--output", "json", "--output-path", str(report)),
                f"--chrome-flags={' '.join(('--headless=new', *ARGUMENTS))}",
                seconds=SECONDS,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            result: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
            assert result["finalDisplayedUrl"] == url, result["finalDisplayedUrl"]
            for category in wanted:
                found[category].append(100 * float(result["categories"][category]["score"]))
    finally:
        sent.unlink()
    return {category: median(values) for category, values in found.items()}
