"""Deploys that are broken on purpose: each ends in words, the version before serves on, and nobody notices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from endtoend.fleet import GROUP, Fleet
from endtoend.load import Load
from endtoend.people import Person, until_steady
from endtoend.stack import NAME, Run, Stack, kill
from endtoend.waiting import until

pytestmark = pytest.mark.e2e

RATE = 15
PASSWORD = f"/{NAME}/app/mysql-password"

START = ("memo/wsgi.py", "from memo import create_app", "from memo import create_app, what_is_not_there")
ANSWER_500 = ("memo/pages.py", '    return memos_page(notice(request.args.get("notice")))', "    raise RuntimeError")
# The fleet's instances are behind one proxy, the development host is behind none.
SLOW_BOOT = (
    "memo/bootstrap.py",
    "def main(",
    """
if '"MEMO_TRUSTED_PROXIES": "1"' in open("/etc/memo/instance.json").read():
    import time

    time.sleep(600)


def main(""",
)


def migration(name: str, *statements: str) -> tuple[str, str, str]:
    """A further migration, as a change of the application."""
    lines = [
        "from alembic import op",
        'revision, down_revision, branch_labels, depends_on = "9001", "0006", None, None',
        "def upgrade():",
        *(f"    op.execute({statement!r})" for statement in statements),
    ]
    return f"memo/migrations/versions/9001_{name}.py", "", "\n".join(lines)


LABELS = "CREATE TABLE IF NOT EXISTS labels (id INT PRIMARY KEY)"
HALF_WAY = migration("half_way", LABELS, "ALTER TABLE nowhere ADD COLUMN colour INT")
ON_REAL_DATA = migration("labels", LABELS, "INSERT INTO labels SELECT 1 FROM memos")
MENDED = migration("labels", LABELS, "INSERT INTO labels SELECT DISTINCT 1 FROM memos")
BREAKS_THE_OLD = migration("colours", "ALTER TABLE memos ADD COLUMN colour VARCHAR(20) NOT NULL")


@dataclass
class Case:
    """A broken deploy: what is changed in the application, what is set, and the words that tell why it failed."""

    words: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...] = ()
    settings: dict[str, object] = field(default_factory=dict)


CASES = {
    "does-not-start": Case(("what_is_not_there", "[Tt]he fleet was not touched"), (START,)),
    "answers-500": Case(("does not work on Web-Server-Dev", "got 500", "the fleet was not touched"), (ANSWER_500,)),
    "wrong-nginx": Case(
        ("Web-Server-Dev could not be configured", "Configure nginx", "Nothing of the running fleet"),
        settings={"web_extra_ports": [99999]},
    ),
    "migration-fails-half-way": Case(
        ("fail in the scratch database", "nothing was changed", "nowhere", "The fleet was not touched"), (HALF_WAY,)
    ),
    "migration-breaks-the-old-version": Case(
        ("would break the version that runs", "memos.colour needs a value", "The fleet was not touched"),
        (BREAKS_THE_OLD,),
    ),
    "migration-fails-on-real-data": Case(
        ("failed on the real data", "Duplicate entry", "goes on serving"), (ON_REAL_DATA,)
    ),
    "boots-too-slowly": Case(("rolled back", "serves on"), (SLOW_BOOT,), {"memo_server_fleet_timeout": 25}),
}


@contextmanager
def nobody_notices(fleet: Fleet, crowd: list[Person]) -> Iterator[None]:
    """Around a deploy that must leave the fleet as it is, for the people at work too."""
    before, members = fleet.version(), fleet.healthy()
    load = Load(crowd, RATE)
    load.start()
    try:
        yield
    finally:
        load.stop()
    assert fleet.version() == before
    assert members <= fleet.healthy(), "an instance that served is gone"
    assert load.failed() == [], load.report()
    load.check_ledger()
    until(lambda: not fleet.stack.instances("image-builder", "pending", "running"), "no builder left", timeout=30)


def told(run: Run) -> str:
    """The paragraph that a failed run ends with, its line breaks gone."""
    assert run.status != 0, run.tail
    return run.words.rpartition("fatal: ")[2].partition("PLAY RECAP")[0]


@pytest.mark.parametrize("name", CASES)
def test_broken_deploy(fleet: Fleet, crowd: list[Person], name: str) -> None:
    case = CASES[name]
    app = fleet.variant("broken", **{str(number): change for number, change in enumerate(case.changes)})
    with nobody_notices(fleet, crowd):
        run = fleet.deploy(app, settings=case.settings)
    paragraph = told(run)
    for words in case.words:
        assert re.search(words, paragraph), paragraph
    print(f"\n{name}: {run.seconds:.0f} s: {paragraph[:400]}")


def test_wrong_secret(fleet: Fleet, crowd: list[Person], service: Stack) -> None:
    ssm = service.session.client("ssm", endpoint_url=service.settings.api_url)
    right = ssm.get_parameter(Name=PASSWORD, WithDecryption=True)["Parameter"]["Value"]
    app = fleet.variant("wrong-secret", words=fleet.other_words())
    ssm.put_parameter(Name=PASSWORD, Value="wrong", Type="SecureString", Overwrite=True)
    try:
        with nobody_notices(fleet, crowd):
            # MySQL's users have their passwords from there too, but a deploy leaves DB-Server alone.
            run = fleet.deploy(app)
    finally:
        ssm.put_parameter(Name=PASSWORD, Value=right, Type="SecureString", Overwrite=True)
    assert "MySQL refuses the user memo" in told(run)
    assert right not in run.output


def test_database_down(fleet: Fleet, service: Stack) -> None:
    before = fleet.version()
    database = service.instance("db-server")["InstanceId"]
    service.ec2.stop_instances(InstanceIds=[database])
    try:
        person = Person(service.url)
        until(lambda: person.get("ready").status_code == 503, "an outage", timeout=90)
        run = fleet.deploy(fleet.variant("fine"))
    finally:
        until(lambda: service.instances("db-server", "stopped"), "a stopped DB-Server", timeout=90)
        service.ec2.start_instances(InstanceIds=[database])
    assert "MySQL is down" in told(run)
    assert "Repair DB-Server first" in told(run)
    assert fleet.version() == before
    until_steady(person)


def test_controller_killed_and_second_deploy_refused(fleet: Fleet, crowd: list[Person], service: Stack) -> None:
    """The one is refused in words while the other is at work; that is killed in the refresh, and the next goes on."""
    app = fleet.variant("fine", words=fleet.other_words())
    settings = f'{{"memo_server_app_folder": "{app}"}}'
    load = Load(crowd, RATE)
    load.start()
    try:
        first = service.start("ansible-playbook", "playbooks/deploy.yml", "--extra-vars", settings)
        until(lambda: bool(service.instances("image-builder", "pending", "running")), "a deploy at work", timeout=120)
        refused = fleet.deploy(app)
        assert "Another run is at work" in told(refused)
        assert "deploy by" in told(refused)
        until(lambda: active_refresh(service), "a refresh under way", timeout=180, poll=0.2)
        kill(first)
        resumed = fleet.deploy(app)
    finally:
        load.stop()
    assert resumed.status == 0, resumed.tail
    assert "Took over the lock of a run that is gone" in resumed.words
    assert load.failed() == [], load.report()
    load.check_ledger()
    assert fleet.marks()["good"].split()[-1] == fleet.version()


def test_instance_killed_in_a_refresh_and_the_next_good_deploy(
    fleet: Fleet, crowd: list[Person], service: Stack, user: Callable[[str], Person]
) -> None:
    """After all that was broken: a migration that was mended, deployed while one of the new instances dies."""
    app = fleet.variant("mended", migration=MENDED)
    old = fleet.healthy()
    load = Load(crowd, RATE)
    load.start()
    try:
        process = service.start(
            "ansible-playbook", "playbooks/deploy.yml", "--extra-vars", f'{{"memo_server_app_folder": "{app}"}}'
        )
        until(lambda: active_refresh(service), "a refresh under way", timeout=240, poll=0.2)
        victim = until(lambda: next(iter(newcomers(fleet, old)), None), "a new instance", timeout=60, poll=0.1)
        fleet.pull_the_plug(victim)
        status = process.wait(300)
        if status != 0:
            # That the replacement failed is told, and the version before serves; the deploy is tried again.
            assert fleet.healthy() & old
            again = fleet.deploy(app)
            assert again.status == 0, again.tail
    finally:
        load.stop()
    fleet.settled()
    assert load.failed() == [], load.report()
    load.check_ledger()
    assert fleet.marks()["good"].split()[-1] == fleet.version()
    assert user("minjun").write("after all").status_code == 200


def newcomers(fleet: Fleet, old: set[str]) -> set[str]:
    """The group's instances that were not there before and run."""
    running = {one["InstanceId"] for one in fleet.stack.instances("web-fleet")}
    return running - old


def active_refresh(service: Stack) -> bool:
    """Whether a refresh is under way."""
    answer = service.autoscaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)
    return any(one["Status"] in ("Pending", "InProgress") for one in answer["InstanceRefreshes"])
