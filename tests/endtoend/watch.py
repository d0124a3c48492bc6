"""Somebody who asks the service all the time whether it is ready, so that no test waits to know that it has been."""

from __future__ import annotations

import threading
import time

import requests

from endtoend.people import Person
from endtoend.waiting import until

PAUSE_SECONDS = 0.2
STEADY_SECONDS = 3.0


class Watch:
    """Asks in the background.

    Args:
        url: the service's page, with the slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._refused = self._answered = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="watch", daemon=True)
        self._thread.start()

    def until_steady(self) -> None:
        """Until nobody has been refused for three seconds, with an answer that was asked for from now on."""
        begun = time.monotonic()
        until(
            lambda: self._answered > begun and self._answered - self._refused > STEADY_SECONDS,
            "a service that is ready",
            timeout=180,
            poll=0.05,
        )

    def end(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        person = Person(self.url)
        while not self._over.wait(PAUSE_SECONDS):
            asked = time.monotonic()
            try:
                good = person.get("ready").status_code == 200
            except requests.RequestException:
                good = False
            if good:
                self._answered = asked
            else:
                self._refused = time.monotonic()
