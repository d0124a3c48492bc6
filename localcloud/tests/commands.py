"""Commands that a test talks with while they run."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable

LONGEST_SECONDS = 120
"""For what never happens."""


def output_of(process: subprocess.Popen[str], heard: Callable[[str], object]) -> str:
    """Read what a command prints until it ends.

    Args:
        process: started with a pipe for its output and in a session of its own, all of which is killed when it takes
            too long.
        heard: told each line when it comes.

    Returns:
        All of the output.
    """
    assert process.stdout is not None
    impatience = threading.Timer(LONGEST_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    impatience.start()
    lines = []
    try:
        with process.stdout:
            for line in process.stdout:
                lines.append(line)
                heard(line)
        process.wait()
    finally:
        impatience.cancel()
    return "".join(lines)
