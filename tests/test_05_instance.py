"""Inside an instance of the fleet: what a program learns there is what it would learn on EC2, by the same code."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable

import pytest
from endtoend.people import TIMEOUT, Person
from endtoend.stack import Run, Stack
from endtoend.waiting import until

pytestmark = pytest.mark.e2e

PROBE = r"""
import json, pathlib, urllib.error, urllib.request
import boto3, botocore.exceptions

METADATA = "http://169.254.169.254/latest"

def ask(path, token=None, **more):
    headers = {"X-aws-ec2-metadata-token": token} if token else {}
    request = urllib.request.Request(METADATA + path, headers=headers | more.pop("headers", {}), **more)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()

try:
    ask("/meta-data/instance-id")
    without_token = 200
except urllib.error.HTTPError as error:
    without_token = error.code
token = ask("/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
keys = ("instance-id", "ami-id", "instance-type", "local-ipv4", "local-hostname", "mac", "placement/availability-zone",
        "placement/region")
known = {key: ask("/meta-data/" + key, token) for key in keys}
settings = json.loads(pathlib.Path("/etc/memo/instance.json").read_text())
session = boto3.Session(region_name=settings["region"])
credentials = session.get_credentials()
ssm = session.client("ssm", endpoint_url=settings["endpoint_url"] or None)

def read(name):
    try:
        return bool(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]

print(json.dumps({
    "without token": without_token,
    "known": known,
    "user data": ask("/user-data", token)[:13],
    "document": json.loads(ask("/dynamic/instance-identity/document", token)),
    "credentials": credentials.method,
    "session token": bool(credentials.token),
    "app": [read(name) for name in settings["secrets"].values()],
    "admin": read("/memo-server/admin/mysql-root-password"),
    "caller": session.client("sts", endpoint_url=settings["endpoint_url"] or None).get_caller_identity()["Arn"],
    "machine id": pathlib.Path("/etc/machine-id").read_text().strip(),
    "host key": pathlib.Path("/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[1],
}))
"""


def test_an_instance_finds_what_it_would_find_on_ec2(service: Stack, deployed: Run) -> None:
    instance = service.instance("web-fleet")
    seen = json.loads(service.ssh(instance, "/opt/memo/venv/bin/python", "-", script=PROBE))
    assert seen["without token"] == 401
    assert seen["known"]["instance-id"] == instance["InstanceId"] == seen["document"]["instanceId"]
    assert seen["known"]["ami-id"] == instance["ImageId"]
    assert seen["known"]["instance-type"] == instance["InstanceType"]
    assert seen["known"]["local-ipv4"] == instance["PrivateIpAddress"]
    assert seen["known"]["placement/availability-zone"] == instance["Placement"]["AvailabilityZone"]
    assert seen["user data"] == "#cloud-config"
    assert (seen["credentials"], seen["session token"]) == ("iam-role", True)
    assert ":assumed-role/memo-server-web/" in seen["caller"]
    assert set(seen["app"]) == {True}
    assert seen["admin"] == "AccessDeniedException"


def test_copies_have_their_own_identity(service: Stack, deployed: Run) -> None:
    """Host keys and machine id differ between the fleet and the host it was baked like."""
    question = "cat /etc/machine-id; sudo cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub"
    answers = [service.ssh(service.instance(role), question).split() for role in ("web-fleet", "web-dev", "db-server")]
    for values in zip(*answers, strict=True):
        assert len(set(values)) == len(values)


def test_image_holds_no_secret(service: Stack, deployed: Run) -> None:
    """Secrets are in memory only: nothing under /etc, /opt or /var of a fleet instance holds one."""
    instance = service.instance("web-fleet")
    places = "/etc /opt/memo /var/log /var/lib/cloud"
    look = f"for secret in /run/memo/secrets/*; do test -s $secret && grep -rlsF -f $secret {places}; done; true"
    found = service.ssh(instance, "sudo", "sh", "-c", f"'{look}'")
    assert found == ""


FIND_LINES = r"""
import json, subprocess, sys
wanted = {wanted!r}
journal = subprocess.check_output(["journalctl", "--unit=memo.service", "--output=cat"], text=True)
lines = open("/var/log/nginx/access.log").read().splitlines() + journal.splitlines()
found = [json.loads(line) for line in lines if wanted in line]
print(json.dumps([[line.get("logger", "nginx"), line["request_id"], line["status"]] for line in found]))
"""


def logged(service: Stack, request_id: str) -> list[list[object]]:
    """What the fleet's nginx and application logged of a request, uWSGI aside, once both have: nginx writes its line
    when the client may have the answer already."""
    script = FIND_LINES.replace("{wanted!r}", repr(request_id))

    def by_both() -> list[list[object]] | None:
        found = [
            line
            for instance in service.instances("web-fleet")
            for line in json.loads(service.ssh(instance, "sudo", "python3", "-", script=script))
            if line[0] != "uwsgi"
        ]
        return found if len({line[0] for line in found}) > 1 else None

    return until(by_both, f"{request_id} in the logs of nginx and of the application", timeout=15)


def test_a_request_has_one_id_in_the_answer_and_in_every_log(service: Stack, visitor: Callable[[], Person]) -> None:
    """The load balancer's: made by it, or made by the client and extended ("Request tracing for your Application Load
    Balancer" in the ELB User Guide). uWSGI logs only what failed or was slow."""
    made = visitor().get("memo", Accept="application/json")
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", made.headers["X-Request-Id"])
    root = f"Root=1-67891233-{secrets.token_hex(12)}"
    kept = visitor().session.get(
        visitor().url + "memo", headers={"Accept": "application/json", "X-Amzn-Trace-Id": root}, timeout=TIMEOUT
    )
    assert re.fullmatch(rf"Self=1-[0-9a-f]{{8}}-[0-9a-f]{{24}};{root}", kept.headers["X-Request-Id"])
    for answer in (made, kept):
        wanted = answer.headers["X-Request-Id"]
        assert logged(service, wanted) == [["nginx", wanted, 401], ["memo.request", wanted, 401]]


def test_nobody_learns_a_secret_from_the_list_of_processes(service: Stack, deployed: Run) -> None:
    """Neither arguments nor environment of any process of a fleet instance hold one."""
    look = "for secret in /run/memo/secrets/*; do ps axeww | grep -F -c -f $secret; done"
    counts = service.ssh(service.instance("web-fleet"), "sudo", "sh", "-c", f"'{look}; true'").split()
    assert len(counts) == 5
    assert set(counts) == {"0"}


def test_only_operators_keys_and_no_password(service: Stack, deployed: Run) -> None:
    for role in ("web-fleet", "web-dev", "db-server"):
        shadow = service.ssh(service.instance(role), "sudo cut -d: -f1,2 /etc/shadow").split()
        with_password = [line for line in shadow if not line.split(":")[1].startswith(("!", "*"))]
        assert with_password == []
