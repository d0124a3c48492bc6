"""The end-to-end tests share one local cloud and one installation in it.

The files are numbered because the order matters: an empty cloud first, then the installation, then
its use, then the faults, and at the end nothing may be left. Any file also runs alone, on a cloud that is
made for it. With `--cloud NAME` a cloud that is up already is used and left standing (`memo` is that of bin/up),
and the tests that need an empty cloud or remove it are not selected.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endtoend import machine, people
from endtoend.fleet import Fleet
from endtoend.people import Person
from endtoend.stack import ARTEFACTS, Run, Stack, kill
from endtoend.waiting import until
from endtoend.watch import Watch
from memo_testing.chromium import launched
from playwright.sync_api import Browser, Page

from localcloud.settings import CloudSettings

CLOUD = CloudSettings(name="e2e", cidr="10.212.0.0/16")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cloud", metavar="NAME", help="use this local cloud, which is up, and leave it standing")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "clean: needs an empty cloud, or removes it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--cloud"):
        return
    clean = [item for item in items if item.get_closest_marker("clean")]
    items[:] = [item for item in items if item not in clean]
    config.hook.pytest_deselected(items=clean)


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """The folder for screenshots and logs, git-ignored and kept after the run."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS


@pytest.fixture(scope="session")
def stack(artefacts: Path, request: pytest.FixtureRequest) -> Stack:
    """The cloud under test, not started yet."""
    log = artefacts / "commands.log"
    log.unlink(missing_ok=True)
    name = request.config.getoption("--cloud")
    return Stack(CloudSettings.load(name) if name else CLOUD, log)


@pytest.fixture(scope="session")
def machine_before(stack: Stack, request: pytest.FixtureRequest) -> dict[str, set[str]]:
    """This machine before the cloud was started; what an earlier run left of it is removed first."""
    if not request.config.getoption("--cloud"):
        removed = stack.down()
        assert removed.status == 0, removed.tail
    return machine.snapshot()


@pytest.fixture(scope="session")
def cloud(stack: Stack, machine_before: dict[str, set[str]], request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A local cloud that is up; empty if the test comes before those that install something."""
    if request.config.getoption("--cloud"):
        yield stack
        return
    started = stack.up()
    assert started.status == 0, started.tail
    print(f"\nlocalcloud up: {started.seconds:.0f} s")
    yield stack
    if request.session.testsfailed:
        for question in (("status",), ("logs",)):
            stack.localcloud(*question, "--name", CLOUD.name, timeout=60)
    removed = stack.down()
    if removed.status:
        warnings.warn(f"the cloud could not be removed:\n{removed.tail}", stacklevel=1)


@pytest.fixture(scope="session")
def killed_bake(cloud: Stack, request: pytest.FixtureRequest) -> int:
    """A first run of site.yml that is killed in the middle of the bake.

    Returns:
        How many image builders it left behind; 0 on a cloud that was there before, where nothing is killed.
    """
    if request.config.getoption("--cloud"):
        return 0
    process = cloud.start("ansible-playbook", "site.yml")
    try:

        def builder_works() -> bool:
            assert process.poll() is None, f"site.yml ended before it baked; see {cloud.log}"
            return bool(cloud.instances("image-builder"))

        until(builder_works, "an image builder that runs", timeout=900, poll=1)
    finally:
        kill(process)
    return len(cloud.instances("image-builder", "pending", "running"))


@pytest.fixture(scope="session")
def deployed(cloud: Stack, killed_bake: int) -> Run:
    """The run of site.yml that made the installation."""
    run = cloud.site()
    assert run.status == 0, run.tail
    print(f"\nsite.yml: {run.seconds:.0f} s")
    return run


@pytest.fixture(scope="session")
def watch(cloud: Stack, deployed: Run) -> Iterator[Watch]:
    """Somebody who knows whether the service was ready lately."""
    watch = Watch(cloud.url)
    yield watch
    watch.end()


@pytest.fixture
def service(cloud: Stack, watch: Watch) -> Stack:
    """The installation, serving."""
    assert cloud.url == watch.url, "the load balancer is another one"
    watch.until_steady()
    return cloud


@pytest.fixture
def visitor(service: Stack) -> Callable[[], Person]:
    """Makes people who are not logged in."""
    url = service.url
    return lambda: Person(url)


@pytest.fixture
def user(visitor: Callable[[], Person]) -> Callable[[str], Person]:
    """Makes people who are logged in, e.g. `user("minjun")`."""

    def make(who: str) -> Person:
        person = visitor()
        assert person.login(who).status_code == 200
        return person

    return make


@pytest.fixture
def fleet(service: Stack, tmp_path: Path) -> Fleet:
    """The installation's fleet, as its operator changes it."""
    return Fleet(service, tmp_path)


@pytest.fixture
def crowd(service: Stack) -> list[Person]:
    """Eight people who are logged in."""
    return people.crowd(service, 8)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's own Chromium."""
    with launched() as instance:
        yield instance


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Makes pages of browsers that share nothing, as two people's do."""
    contexts = []

    def make() -> Page:
        context = browser.new_context(locale="ko-KR", viewport={"width": 1024, "height": 720})
        context.set_default_timeout(15_000)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
