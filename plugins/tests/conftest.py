"""Fixtures for the tests of the project's Ansible plugins."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

from localcloud.tests.conftest import api_port, cloud, pytest_configure

__all__ = ["api_port", "cloud", "pytest_configure"]

# As Ansible does with the folder that ansible.cfg names.
ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "module_utils"))
