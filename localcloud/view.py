"""What `status` shows: read through the AWS API like any other client would, and the daemon's own report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config

from localcloud import process
from localcloud.settings import BASE_IMAGE_OWNER, CloudSettings

ACCESS_KEY = "AKIALOCALCLOUD000000"
"""Any well-formed key is the account's administrator; this one is the documented example."""


def connection(settings: CloudSettings) -> dict[str, Any]:
    """How boto3 reaches the cloud's API, as keyword arguments of `boto3.client`.

    Args:
        settings: of the cloud.
    """
    return {
        "endpoint_url": settings.api_url,
        "region_name": settings.region,
        "aws_access_key_id": ACCESS_KEY,
        # The local API checks no signature.
        "aws_secret_access_key": "local",
        "config": Config(connect_timeout=3, read_timeout=20, retries={"max_attempts": 1}, proxies={}),
    }


def collect(settings: CloudSettings) -> dict[str, Any]:
    """Everything `status` shows, as plain data.

    Raises:
        BotoCoreError: the API does not answer.
    """
    how = connection(settings)
    ec2, elb, groups = boto3.client("ec2", **how), boto3.client("elbv2", **how), boto3.client("autoscaling", **how)
    instances = [
        _instance(instance)
        for reservation in ec2.describe_instances()["Reservations"]
        for instance in reservation["Instances"]
    ]
    images = ec2.describe_images(Owners=["self", BASE_IMAGE_OWNER])["Images"]
    return {
        "cloud": settings.name,
        "cidr": settings.cidr,
        "api": settings.api_url,
        "naver": settings.naver_url,
        "instances": sorted(instances, key=lambda one: (one["name"], one["launched"])),
        "images": [
            {"id": image["ImageId"], "name": image["Name"], "state": image["State"], "created": image["CreationDate"]}
            for image in sorted(images, key=lambda one: one["CreationDate"])
        ],
        "groups": [
            {
                "name": group["AutoScalingGroupName"],
                "min": group["MinSize"],
                "max": group["MaxSize"],
                "desired": group["DesiredCapacity"],
                "instances": [
                    {"id": one["InstanceId"], "state": one["LifecycleState"], "health": one["HealthStatus"]}
                    for one in group["Instances"]
                ],
            }
            for group in groups.describe_auto_scaling_groups()["AutoScalingGroups"]
        ],
        "target_groups": [
            {"name": group["TargetGroupName"], "targets": _targets(elb, group["TargetGroupArn"])}
            for group in elb.describe_target_groups()["TargetGroups"]
        ],
        "urls": [
            _url(balancer["DNSName"], listener["Port"])
            for balancer in elb.describe_load_balancers()["LoadBalancers"]
            for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
        ],
        "daemon": daemon(settings),
    }


def daemon(settings: CloudSettings) -> dict[str, Any]:
    """What the daemon says of itself, with `running` and `stale` as seen from outside."""
    status = process.read_status(settings)
    status["running"] = process.running_pid(settings) is not None
    status["stale"] = process.is_stale(settings)
    return status


def table(data: dict[str, Any]) -> str:
    """The same for people."""
    sections = [f"cloud {data['cloud']}  {data['cidr']}  API {data['api']}  Naver stand-in {data['naver']}"]
    sections.append(
        _section(
            ["INSTANCE", "STATE", "NAME", "IP", "IMAGE", "GROUP", "AGE"],
            [
                [one["id"], one["state"], one["name"], one["ip"], one["image"], one["group"], _age(one["launched"])]
                for one in data["instances"]
                if one["state"] != "terminated"
            ],
            "no instances",
        )
    )
    sections.append(
        _section(
            ["IMAGE", "STATE", "NAME", "AGE"],
            [[one["id"], one["state"], one["name"], _age(one["created"])] for one in data["images"]],
            "no images",
        )
    )
    if data["groups"]:
        sections.append(
            _section(
                ["AUTO SCALING GROUP", "MIN", "MAX", "DESIRED", "INSTANCES"],
                [
                    [
                        one["name"],
                        str(one["min"]),
                        str(one["max"]),
                        str(one["desired"]),
                        ", ".join(f"{each['id']} {each['state']} {each['health']}" for each in one["instances"]),
                    ]
                    for one in data["groups"]
                ],
                "",
            )
        )
    if data["target_groups"]:
        sections.append(
            _section(
                ["TARGET GROUP", "TARGET", "HEALTH", "WHY"],
                [
                    [group["name"], one["target"], one["state"], one["description"] or ""]
                    for group in data["target_groups"]
                    for one in group["targets"] or [{"target": "-", "state": "-", "description": "no targets"}]
                ],
                "",
            )
        )
    sections += [f"URL {url}" for url in data["urls"]]
    return "\n\n".join([*sections, _daemon_line(data["daemon"])])


def _daemon_line(status: dict[str, Any]) -> str:
    if not status["running"]:
        return "THE DAEMON IS NOT RUNNING: see `localcloud logs`; `localcloud up` cleans up and starts anew"
    if status["stale"]:
        return "THE DAEMON'S LOOP HANGS: see `localcloud logs`"
    troubles = status.get("troubles", [])
    if not troubles:
        return f"daemon {status['pid']}: no errors"
    last = troubles[-1]
    return (
        f"daemon {status['pid']}: {len(troubles)} error(s), the last at {last['at']}: {last['where']}: {last['text']}"
    )


def _instance(instance: Mapping[str, Any]) -> dict[str, Any]:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    return {
        "id": instance["InstanceId"],
        "name": tags.get("Name", ""),
        "state": instance["State"]["Name"],
        "ip": instance.get("PrivateIpAddress") or "",
        "image": instance["ImageId"],
        "group": tags.get("aws:autoscaling:groupName", ""),
        "launched": instance["LaunchTime"].astimezone(UTC).isoformat(),
        "reason": instance.get("StateReason", {}).get("Message", ""),
    }


def _targets(elb: Any, arn: str) -> list[dict[str, Any]]:  # noqa: ANN401 - a boto3 client
    return [
        {
            "target": f"{one['Target']['Id']}:{one['Target']['Port']}",
            "state": one["TargetHealth"]["State"],
            "reason": one["TargetHealth"].get("Reason"),
            "description": one["TargetHealth"].get("Description"),
        }
        for one in elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    ]


def _url(name: str, port: int) -> str:
    return f"http://{name}/" if port == 80 else f"http://{name}:{port}/"


def _age(since: str) -> str:
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def _section(titles: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> str:
    lines = [list(titles), *[[cell or "-" for cell in row] for row in rows]]
    if len(lines) == 1 and nothing:
        return nothing
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
