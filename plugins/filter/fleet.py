"""Filters that choose among what fleet_info tells: pure functions, tested without an account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ACTIVE = ("Pending", "InProgress", "Baking", "RollbackInProgress", "Cancelling")


def rollback_plan(fleet: dict[str, Any], wanted: str | int = "") -> dict[str, Any]:
    """Choose the version to go back to.

    Args:
        fleet: what `fleet_info` returns.
        wanted: a version's number; empty for the last good one that is not what the fleet is to run now.

    Returns:
        `version`, the versions that are `left` and become void, `told` (what will happen, in words) and `problem`
        (why it cannot be, empty when it can).
    """
    problem = _problem(fleet, str(wanted))
    if problem:
        return {"version": 0, "left": [], "told": "", "problem": problem}
    running = _running(fleet)
    version = int(wanted) if str(wanted) else _last_good(fleet)
    left = sorted(running - {version})
    told = f"{fleet['group']['name']} goes to version {version}"
    told += f"; version {' and '.join(map(str, left))} becomes void." if left else ", which it runs already."
    return {"version": version, "left": left, "told": told, "problem": ""}


def _problem(fleet: dict[str, Any], wanted: str) -> str:
    if not fleet["group"]["name"]:
        return "There is no Auto Scaling group, so nothing to roll back: run ansible-playbook site.yml."
    known = {str(one["number"]): one for one in fleet["versions"]}
    good = ", ".join(number for number in sorted(known, key=int) if known[number]["good"]) or "none"
    if not wanted:
        if _last_good(fleet):
            return ""
        return (
            f"There is no other good version to go back to (good: {good}; the fleet is to run "
            f"{', '.join(map(str, sorted(_running(fleet))))}). Name one with -e version=N, or deploy a better one."
        )
    if wanted not in known:
        return f"There is no version {wanted}. Good versions: {good}."
    if known[wanted]["void"]:
        return (
            f"Version {wanted} is void: a rollback left it. Good versions: {good}. "
            f"If it was right after all: ansible-playbook playbooks/unvoid.yml -e version={wanted}"
        )
    image = known[wanted]["image_id"]
    if image not in {one["id"] for one in fleet["images"] if one["state"] == "available"}:
        return f"The image {image} of version {wanted} is gone. Good versions: {good}."
    return ""


def _running(fleet: dict[str, Any]) -> set[int]:
    """The versions that the fleet is to run: saved, under way, or on an instance."""
    found = {fleet["group"]["version"], *(one["version"] for one in fleet["instances"])}
    found |= {one["version"] for one in fleet["refreshes"] if one["status"] in _ACTIVE}
    return {int(version) for version in found if version.isdigit()}


def _last_good(fleet: dict[str, Any]) -> int:
    """The newest good version, older than the one the fleet is to run if that is good itself; 0 when there is none."""
    available = {one["id"] for one in fleet["images"] if one["state"] == "available"}
    good = [
        one["number"] for one in fleet["versions"] if one["good"] and not one["void"] and one["image_id"] in available
    ]
    running = _running(fleet)
    newest = max(running, default=0)
    return max((number for number in good if number < newest), default=0)


class FilterModule:
    """What Ansible looks for in a file of filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by the names that templates use."""
        return {"rollback_plan": rollback_plan}
