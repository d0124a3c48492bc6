"""The metadata service's answers, asked as an instance asks."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from werkzeug.test import Client, TestResponse

from localcloud.api.access import Credentials
from localcloud.metadata import MetadataServer
from localcloud.model import DesiredInstance, InstanceState
from localcloud.settings import CloudSettings

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"

WEB = DesiredInstance(
    instance_id="i-0123456789abcdef0",
    state=InstanceState.RUNNING,
    image_id="ami-0123456789abcdef0",
    instance_type="t2.micro",
    private_ip="10.211.0.10",
    mac="0a:6c:0a:d3:00:0a",
    subnet_id="subnet-1",
    availability_zone="ap-northeast-2a",
    security_group_ids=("sg-1", "sg-2"),
    key_name="operators",
    public_key="ssh-ed25519 AAAA operators\n",
    user_data=b"#cloud-config\n\xed\x95\x9c",
    instance_profile_arn="arn:aws:iam::123456789012:instance-profile/web",
    role_name="web-role",
    http_tokens="required",
)
BARE = replace(
    WEB,
    instance_id="i-0bare",
    private_ip="10.211.0.11",
    key_name=None,
    public_key=None,
    user_data=b"",
    instance_profile_arn=None,
    role_name=None,
    http_tokens="optional",
)


class Asker:
    """An instance's view of the service."""

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._environ = {"REMOTE_ADDR": address}

    def token(self, ttl: str | None = "60", **headers: str) -> TestResponse:
        sent = headers | ({TTL: ttl} if ttl is not None else {})
        return self._client.put("/latest/api/token", headers=sent, environ_base=self._environ)

    def get(self, path: str, token: str | None = None) -> TestResponse:
        headers = {TOKEN: token} if token else {}
        return self._client.get(path, headers=headers, environ_base=self._environ)

    def read(self, path: str) -> str:
        response = self.get(path, self.token().text)
        assert response.status_code == 200, path
        return response.text


@pytest.fixture
def client() -> Client:
    def credentials(instance: DesiredInstance) -> Credentials | None:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        return Credentials("ASIAEXAMPLE", "secret", "session", moment, moment) if instance.role_name else None

    by_ip = {instance.private_ip: instance for instance in (WEB, BARE)}
    server = MetadataServer(CloudSettings(name="mach", cidr="10.211.0.0/16"), by_ip.get, credentials)
    return Client(server._application)


@pytest.fixture
def web(client: Client) -> Asker:
    return Asker(client, WEB.private_ip)


@pytest.fixture
def bare(client: Client) -> Asker:
    return Asker(client, BARE.private_ip)


def test_without_a_token_where_tokens_are_required(web: Asker) -> None:
    assert web.get("/latest/meta-data/instance-id").status_code == 401


def test_without_a_token_where_they_are_optional(bare: Asker) -> None:
    assert bare.get("/latest/meta-data/instance-id").text == BARE.instance_id


@pytest.mark.parametrize("ttl", [None, "", "0", "21601", "abc", "-1"])
def test_token_needs_a_sensible_time_to_live(web: Asker, ttl: str | None) -> None:
    assert web.token(ttl).status_code == 400


def test_token_is_refused_to_proxies(web: Asker) -> None:
    assert web.token(**{"X-Forwarded-For": "203.0.113.9"}).status_code == 403


@pytest.mark.parametrize("token", ["nonsense", "MTc5OTk5OTk5OS5hYmM=", "=", "é"])
def test_forged_token_is_refused(bare: Asker, token: str) -> None:
    assert bare.get("/latest/meta-data/", token).status_code == 401


def test_token_of_another_instance_is_refused(web: Asker, bare: Asker) -> None:
    assert bare.get("/latest/meta-data/", web.token().text).status_code == 401


def test_token_expires(web: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    monkeypatch.setattr("time.time", lambda: now)
    token = web.token("60").text
    assert web.get("/latest/meta-data/", token).headers[TTL] == "60"
    now += 59
    assert web.get("/latest/meta-data/", token).headers[TTL] == "1"
    now += 1
    assert web.get("/latest/meta-data/", token).status_code == 401


def test_strangers_get_nothing(client: Client) -> None:
    stranger = Asker(client, "10.211.0.99")
    assert stranger.token().status_code == 404
    assert stranger.get("/latest/user-data").status_code == 404


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("instance-id", WEB.instance_id),
        ("ami-id", WEB.image_id),
        ("hostname", "ip-10-211-0-10.ap-northeast-2.compute.internal"),
        ("local-ipv4", WEB.private_ip),
        ("mac", WEB.mac),
        ("placement/availability-zone", "ap-northeast-2a"),
        ("placement/region", "ap-northeast-2"),
        ("public-keys/", "0=operators"),
        ("public-keys/0/openssh-key", "ssh-ed25519 AAAA operators"),
        (f"network/interfaces/macs/{WEB.mac}/subnet-id", "subnet-1"),
        (f"network/interfaces/macs/{WEB.mac}/security-group-ids", "sg-1\nsg-2"),
        ("iam/security-credentials/", "web-role"),
    ],
)
def test_values(web: Asker, path: str, value: str) -> None:
    assert web.read(f"/latest/meta-data/{path}") == value
    assert web.read(f"/2021-03-23/meta-data/{path}") == value


def test_listing_marks_directories(web: Asker) -> None:
    names = web.read("/latest/meta-data/").split("\n")
    assert {"ami-id", "iam/", "public-keys/", "placement/"} <= set(names)
    assert names == sorted(names)
    assert web.read("/latest/meta-data") == web.read("/latest/meta-data/")


def test_user_data_is_given_byte_for_byte(web: Asker, bare: Asker) -> None:
    response = web.get("/latest/user-data", web.token().text)
    assert response.data == WEB.user_data
    assert bare.get("/latest/user-data").status_code == 404


def test_credentials(web: Asker, bare: Asker) -> None:
    given = json.loads(web.read("/latest/meta-data/iam/security-credentials/web-role"))
    assert given["AccessKeyId"] == "ASIAEXAMPLE"
    assert given["Expiration"] == "2026-01-01T00:00:00Z"
    assert json.loads(web.read("/latest/meta-data/iam/info"))["InstanceProfileArn"] == WEB.instance_profile_arn
    assert bare.get("/latest/meta-data/iam/security-credentials/").status_code == 404


def test_what_is_not_there_is_not_listed(bare: Asker) -> None:
    names = bare.read("/latest/meta-data/").split("\n")
    assert "iam/" not in names
    assert "public-keys/" not in names
    assert bare.get("/latest/meta-data/tags/instance").status_code == 404


def test_identity_document(web: Asker) -> None:
    document = json.loads(web.read("/latest/dynamic/instance-identity/document"))
    assert document["instanceId"] == WEB.instance_id
    assert document["region"] == "ap-northeast-2"


@pytest.mark.parametrize("path", ["/latest/nothing", "/1999-13-99/meta-data", "/latest/meta-data/ami-id/more", "/x"])
def test_unknown_paths(web: Asker, path: str) -> None:
    assert web.get(path, web.token().text).status_code == 404


def test_other_methods_are_refused(client: Client) -> None:
    assert client.post("/latest/api/token", environ_base={"REMOTE_ADDR": WEB.private_ip}).status_code == 405
