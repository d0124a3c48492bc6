"""What the commands in bin/ share: work that goes on side by side, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from localcloud.tests.commands import output_of

LIBRARY = Path(__file__).parents[2] / "bin/lib.sh"
STAGES = """
quick() { until [[ -e $work/slow ]]; do sleep 0.1; done; echo "quick is done"; }
slow() { echo "slow begins"; touch "$work/slow"; until [[ -e $work/go ]]; do sleep 0.1; done; echo "slow is done"; }
bad() { until [[ -e $work/begun ]]; do sleep 0.1; done; echo "what went wrong"; false; echo "never"; }
endless() { python3 -c 'import time
try:
    open("'"$work"'/begun", "w").close()
    time.sleep(120)
except KeyboardInterrupt:
    print("cleaned up")
    raise SystemExit(1)'; }
"""


def start(folder: Path, *stages: str) -> subprocess.Popen[str]:
    script = f"set -euo pipefail; . '{LIBRARY}'; work={folder}; {STAGES}\nside_by_side 2 {' '.join(stages)}; echo after"
    return subprocess.Popen(
        ["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    return output


def left(folder: Path) -> list[str]:
    """The processes that still carry the folder's name."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if str(folder) in line]


def test_each_output_is_whole_and_they_overlap(tmp_path: Path) -> None:
    """`quick` ends only while `slow` is under way, and `slow` only when the output of `quick` has been shown."""
    process = start(tmp_path, "slow", "quick", "slow")
    output = output_of(process, lambda line: (tmp_path / "go").touch() if line == "quick is done\n" else None)
    assert process.returncode == 0, output
    assert "slow begins\nslow is done\n" in output
    assert output.index("quick is done") < output.index("slow begins")
    assert output.endswith("after\n")


def test_one_that_fails_ends_the_others_and_the_run(tmp_path: Path) -> None:
    process = start(tmp_path, "endless", "bad")
    output = finished(process)
    assert process.returncode == 1
    assert "what went wrong\n" in output
    assert "never" not in output
    assert "cleaned up\n" in output
    assert output.index("cleaned up\n") < output.index("what went wrong\n")
    assert "bad failed with status 1" in output
    assert "after" not in output
    assert left(tmp_path) == []


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    process = start(tmp_path, "endless", "slow")
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # What a terminal does: the whole foreground process group gets it.
    os.killpg(process.pid, signal.SIGINT)
    output = finished(process)
    assert process.returncode == 130, output
    assert "cleaned up\n" in output
    assert "after" not in output
    assert left(tmp_path) == []
