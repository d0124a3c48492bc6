"""Filters that choose among what fleet_info tells: pure functions, tested without an account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

_SHOWN = 8
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


def prune_plan(fleet: dict[str, Any], kept: int | str) -> dict[str, Any]:
    """Choose the images and template versions that nobody needs.

    Kept are the newest images, what instances run, what the group is to run or a refresh goes to, the newest version,
    and the newest good versions. A template version goes before its image does.

    Args:
        fleet: what `fleet_info` returns.
        kept: how many images, and how many good versions, to keep.

    Returns:
        `images` and `versions` to remove, the `default` version that stays, and `lines` that say it all.

    Raises:
        AnsibleFilterError: fewer than one is to be kept.
    """
    kept = int(kept)
    if kept < 1:
        raise AnsibleFilterError(f"prune keeps at least one image: memo_server_images_kept is {kept}")
    by_number = {one["number"]: one for one in fleet["versions"]}
    good = [number for number in sorted(by_number, reverse=True) if by_number[number]["good"]][:kept]
    needed = _running(fleet) | set(good) | {fleet["template"]["latest"]}
    images = [one for one in fleet["images"] if one["state"] != "deregistered"]
    newest = [one["id"] for one in images if one["state"] == "available"][:kept]
    in_use = {by_number[number]["image_id"] for number in needed if number in by_number}
    going = [
        one
        for one in images
        if one["id"] not in in_use and not one["instances"] and one["id"] not in newest and one["state"] != "pending"
    ]
    gone = {one["id"] for one in going}
    # An image may be gone already, when a prune was interrupted or somebody removed it by hand.
    there = {one["id"] for one in images} - gone
    versions = [
        one["number"] for one in fleet["versions"] if one["image_id"] not in there and one["number"] not in needed
    ]
    staying = [number for number in sorted(by_number) if number not in versions]
    group = fleet["group"]["version"]
    default = int(group) if group.isdigit() and int(group) in staying else max(staying, default=0)
    lines = [
        f"{one['id']} {one['name']}: {one['state']}, {one['age_days']} days old, with its snapshots" for one in going
    ]
    lines += [
        f"version {number} of {fleet['template']['name']}, which launches {by_number[number]['image_id']}"
        for number in versions
    ]
    if not lines:
        lines = [f"Nothing to remove: there are {len(images)} images, {kept} are kept, and what is in use."]
    plan = {"images": [{"id": one["id"], "name": one["name"]} for one in going], "versions": versions}
    return {**plan, "default": default, "lines": lines}


def fleet_drift(fleet: dict[str, Any], least: int | str, most: int | str) -> list[str]:
    """Say how the group differs from the settings, and its instances from the group.

    Args:
        fleet: what `fleet_info` returns.
        least: the group's minimum size as it should be.
        most: its maximum size.
    """
    group, found = fleet["group"], []
    if (group["min"], group["max"]) != (int(least), int(most)):
        found.append(f"the group's size: {group['min']} to {group['max']}, not {least} to {most}")
    if group["suspended"]:
        found.append(f"suspended processes of the group: {', '.join(group['suspended'])}")
    if not any(one["status"] in _ACTIVE for one in fleet["refreshes"]):
        others = [one for one in fleet["instances"] if one["version"] != group["version"]]
        found += [f"{one['id']} runs version {one['version']}, not {group['version']}" for one in others]
    return found


def fleet_lines(fleet: dict[str, Any], prefix: str = "") -> list[str]:
    """Tell a fleet to a person.

    Args:
        fleet: what `fleet_info` returns.
        prefix: the service's path at the load balancer.
    """
    if not fleet["group"]["name"]:
        return ["There is no fleet yet: run ansible-playbook site.yml."]
    group = fleet["group"]
    lines = [f"http://{fleet['dns_name']}{prefix}/" if fleet["dns_name"] else "There is no load balancer."]
    if fleet["maintenance"]:
        lines.append("MAINTENANCE IS ON: everybody sees the maintenance page.")
    if fleet["lock"]:
        lines.append(f"At work now: {fleet['lock']['told']}")
    lines.append(
        f"Group {group['name']}: version {group['version']}, {group['desired']} of {group['min']} to {group['max']}"
    )
    lines += [_instance_line(one) for one in fleet["instances"]] or ["  no instances"]
    lines += ["Versions, newest first:", *(_version_line(one, fleet) for one in fleet["versions"][:_SHOWN])]
    lines += [f"Alarm {one['name']}: {one['state']}" for one in fleet["alarms"]]
    active = [one for one in fleet["refreshes"] if one["status"] in _ACTIVE]
    lines += [f"Refresh to version {one['version']}: {one['status']}, {one['percentage']} %" for one in active]
    return [*lines, "Last changes:", *history_lines(fleet["history"], _SHOWN)]


def _instance_line(one: dict[str, Any]) -> str:
    target = one["target"]
    why = f" ({target['description'] or target['reason']})" if target["description"] or target["reason"] else ""
    told = f"  {one['id']} {one['private_ip']} {one['zone']}: version {one['version']}, {one['state']}, {one['health']}"
    return f"{told}, target {target['state']}{why}"


def _version_line(one: dict[str, Any], fleet: dict[str, Any]) -> str:
    image = next((each for each in fleet["images"] if each["id"] == one["image_id"]), None)
    age = f"{image['age_days']} days old" if image else "gone"
    marks = [word for word in ("good", "void") if one[word]] or ["not verified"]
    running = f", on {', '.join(one['instances'])}" if one["instances"] else ""
    return f"  {one['number']}: {', '.join(marks)}; image {one['image_id']} {age}{running}"


def history_lines(history: list[dict[str, Any]], most: int = 100) -> list[str]:
    """Tell audit records to a person, newest first.

    Args:
        history: the records.
        most: how many.
    """
    lines = []
    for one in history[:most]:
        versions = " -> ".join(str(one[key]) for key in ("previous", "version") if one.get(key))
        who = f"  {one['began']} {one['user']}@{one['host']} {one['action']}"
        told = f"{who}{' version ' if versions else ''}{versions}: {one['result']} after {one['seconds']} s"
        why = f": {one.get('task', '')}: {one.get('message', '')}" if one["result"] != "ok" else ""
        lines.append(told + why)
    return lines or ["  nothing was changed yet"]


def resource_lines(resources: dict[str, list[str]]) -> list[str]:
    """Tell what a project has in the account, a line for each kind.

    Args:
        resources: what `project_resources_info` returns.
    """
    kinds = {kind: sorted(found) for kind, found in resources.items() if found}
    lines = [f"  {len(found)} {kind.replace('_', ' ')}: {', '.join(found)}" for kind, found in kinds.items()]
    return lines or ["  nothing: it is gone already"]


def chosen_hosts(hosts: list[dict[str, Any]], wanted: str) -> list[str]:
    """Choose instances.

    Args:
        hosts: the instances' host variables.
        wanted: an id, a Name tag, a role as a group is called (`web_fleet`), or `all`.

    Returns:
        Their names in the inventory, sorted.
    """
    return sorted(
        host["inventory_hostname"]
        for host in hosts
        if wanted in ("all", host["inventory_hostname"], host["ec2_tags"].get("Name"), _role(host))
    )


def host_told(host: dict[str, Any]) -> str:
    """Tell an instance: its Name, its role as a group is called, its id."""
    return f"{host['ec2_tags'].get('Name', '')} ({_role(host)}, {host['inventory_hostname']})"


def _role(host: dict[str, Any]) -> str:
    return str(host["ec2_tags"].get("Role", "")).replace("-", "_")


class FilterModule:
    """What Ansible looks for in a file of filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by the names that templates use."""
        return {
            "chosen_hosts": chosen_hosts,
            "fleet_drift": fleet_drift,
            "fleet_lines": fleet_lines,
            "history_lines": history_lines,
            "host_told": host_told,
            "prune_plan": prune_plan,
            "resource_lines": resource_lines,
            "rollback_plan": rollback_plan,
        }
