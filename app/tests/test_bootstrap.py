"""An instance's first minute: settings from user data, secrets from SSM (moto's, over HTTP)."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from memo import bootstrap
from memo.config import Settings
from moto.server import ThreadedMotoServer

REGION = "ap-northeast-2"
SECRETS = {
    "MEMO_DATABASE_PASSWORD": "/memo-server/app/mysql-password",
    "MEMO_REDIS_PASSWORD": "/memo-server/app/redis-password",
    "MEMO_SECRET_KEY": "/memo-server/app/secret-key",
    "MEMO_NAVER_CLIENT_ID": "/memo-server/app/naver-client-id",
    "MEMO_NAVER_CLIENT_SECRET": "/memo-server/app/naver-client-secret",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """SSM with the service's parameters."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    ssm = boto3.client("ssm", REGION, endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test")
    for variable, name in SECRETS.items():
        ssm.put_parameter(Name=name, Value=f"{variable}-Ж비밀$\"'\\ " + "x" * 40, Type="SecureString")
    for number in range(12):
        ssm.put_parameter(Name=f"/many/{number}", Value=f"value {number}", Type="SecureString")
    yield url
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def instance(tmp_path: Path, **content: object) -> Path:
    file = tmp_path / "instance.json"
    file.write_text(json.dumps({"region": REGION, **content}), encoding="utf-8")
    return file


def run(file: Path, output: Path) -> int:
    return bootstrap.main(["--file", str(file), "--output", str(output), "--user", ""])


def unquote(line: str) -> tuple[str, str]:
    """As systemd reads a double-quoted value."""
    name, _, value = line.partition("=")
    assert value[0] == value[-1] == '"'
    text, characters = "", iter(value[1:-1])
    for character in characters:
        text += next(characters) if character == "\\" else character
    return name, text


def test_the_service_starts_from_what_is_written(endpoint: str, tmp_path: Path) -> None:
    environment = {
        "MEMO_DATABASE_HOST": "10.0.0.5",
        "MEMO_REDIS_HOST": "10.0.0.5",
        "MEMO_PUBLIC_URL": "",
        "MEMO_X": '$a `b` "c" \\',
    }
    file = instance(tmp_path, endpoint_url=endpoint, environment=environment, secrets=SECRETS)
    output = tmp_path / "run"
    assert run(file, output) == 0
    lines = (output / "environment").read_text(encoding="utf-8").splitlines()
    written = dict(unquote(line) for line in lines)
    assert {name: written[name] for name in environment} == environment
    settings = Settings.from_environment(written)
    assert settings.naver_client_secret == "MEMO_NAVER_CLIENT_SECRET-Ж비밀$\"'\\ " + "x" * 40
    assert not any("비밀" in line for line in lines)


def test_modes(endpoint: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert run(instance(tmp_path, endpoint_url=endpoint, secrets=SECRETS), output) == 0
    secrets = output / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o400}
    assert stat.S_IMODE((output / "environment").stat().st_mode) == 0o444


def test_running_again_replaces_and_forgets(endpoint: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert run(instance(tmp_path, endpoint_url=endpoint, secrets=SECRETS), output) == 0
    fewer = {"MEMO_SECRET_KEY": SECRETS["MEMO_REDIS_PASSWORD"]}
    assert run(instance(tmp_path, endpoint_url=endpoint, secrets=fewer), output) == 0
    (file,) = (output / "secrets").iterdir()
    assert file.read_text(encoding="utf-8").startswith("MEMO_REDIS_PASSWORD-")


def test_more_secrets_than_one_call_takes(endpoint: str, tmp_path: Path) -> None:
    many = {f"MEMO_N{number}": f"/many/{number}" for number in range(12)}
    assert run(instance(tmp_path, endpoint_url=endpoint, secrets=many), tmp_path / "run") == 0
    assert (tmp_path / "run/secrets/MEMO_N11").read_text(encoding="utf-8") == "value 11"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "'region' is missing"),
        ('{"region": ""}', "'region' is missing"),
        ('{"region": "r", "endpoint_url": 5}', "'endpoint_url' must be"),
        ('{"region": "r", "environment": []}', "'environment' must be"),
        ('{"region": "r", "environment": {"PATH": "/x"}}', "no setting of the service"),
        ('{"region": "r", "environment": {"MEMO_A": 1}}', "must be a string"),
        ('{"region": "r", "environment": {"MEMO_A": "a\\nLD_PRELOAD=x"}}', "must be one line"),
        ('{"region": "r", "secrets": {"MEMO_../x": "/a"}}', "no setting of the service"),
    ],
)
def test_user_data_that_will_not_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    file = tmp_path / "instance.json"
    file.write_text(content, encoding="utf-8")
    assert run(file, tmp_path / "run") == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.json", tmp_path / "run") == 1
    assert "user data has to write it" in capsys.readouterr().err


def test_missing_parameter_is_named(endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = SECRETS | {"MEMO_OTHER": "/memo-server/app/other"}
    assert run(instance(tmp_path, endpoint_url=endpoint, secrets=secrets), tmp_path / "run") == 1
    assert "/memo-server/app/other" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_instance_profile(
    endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(instance(tmp_path, endpoint_url=endpoint, secrets=SECRETS), tmp_path / "run") == 1
    assert "instance profile" in capsys.readouterr().err


def test_ssm_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_SSM_ATTEMPTS", 2)
    assert run(instance(tmp_path, endpoint_url="http://127.0.0.1:1", secrets=SECRETS), tmp_path / "run") == 1
    assert "does not answer" in capsys.readouterr().err


def test_unknown_user(endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = instance(tmp_path, endpoint_url=endpoint, secrets=SECRETS)
    assert bootstrap.main(["--file", str(file), "--output", str(tmp_path / "run"), "--user", "no-such-user"]) == 1
    assert "no-such-user" in capsys.readouterr().err


def test_secrets_belong_to_the_service(endpoint: str, tmp_path: Path) -> None:
    # Only root may give files away; anybody else can at least name themselves.
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    file = instance(tmp_path, endpoint_url=endpoint, secrets=SECRETS)
    assert bootstrap.main(["--file", str(file), "--output", str(tmp_path / "run"), "--user", user]) == 0
    assert {path.owner() for path in (tmp_path / "run/secrets").iterdir()} == {user}


def test_flask_is_not_loaded() -> None:
    """It runs in every boot; loading the whole service would double its time."""
    program = "import sys, memo.bootstrap; print([n for n in ('flask', 'sqlalchemy') if n in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
