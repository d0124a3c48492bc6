"""The checkers that come from npm: `tests/web/package.json` names them, bin/test installs them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from memo_testing.chromium import program

ROOT = Path(__file__).parents[3]
CONFIGURATION = ROOT / "tests" / "web"
PROGRAMS = ROOT / ".memo-server" / "web-tools" / "node_modules" / ".bin"
SECONDS = 120


def run(name: str, *arguments: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run one of the tools.

    Args:
        name: the command's.
        arguments: its own.
        seconds: when it is ended.

    Returns:
        The process: status, output and errors.
    """
    path = PROGRAMS / name
    assert path.exists(), f"{name} is missing: `bin/test web` installs it"
    # Node.js comes with the virtual environment; the tools look for it, and for a browser, on their own.
    environment = {
        **os.environ,
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        "CHROME_PATH": program(),
        "REDOCLY_TELEMETRY": "off",
        "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [str(path), *arguments], env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
