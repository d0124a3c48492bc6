"""requirements.yml names the versions that the ansible package brings."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLLECTIONS = re.findall(r"name: ([\w.]+), version: ([\d.]+)", (ROOT / "requirements.yml").read_text(encoding="utf-8"))


def test_there_are_collections() -> None:
    assert len(COLLECTIONS) >= 7


@pytest.mark.parametrize(("name", "wanted"), COLLECTIONS)
def test_same_version_as_in_the_package(name: str, wanted: str) -> None:
    spec = find_spec("ansible_collections")
    assert spec is not None
    assert spec.submodule_search_locations
    manifests = [Path(folder, *name.split("."), "MANIFEST.json") for folder in spec.submodule_search_locations]
    manifest = json.loads(next(path for path in manifests if path.is_file()).read_text(encoding="utf-8"))
    # Python 3.11 gets an older ansible package; requirements.yml is for 3.12 and newer.
    assert manifest["collection_info"]["version"] == wanted or sys.version_info < (3, 12)
