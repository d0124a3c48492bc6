"""Which versions of a launch template are good and which are void: two tags on the template.

They stand on the template because they die with it, as its versions' numbers do. AWS keeps tag values of at most 256
characters (EC2 User Guide, "Tag your Amazon EC2 resources"), so only the newest are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GOOD_TAG = "good"
VOID_TAG = "void"
_MOST = {GOOD_TAG: 20, VOID_TAG: 30}


@dataclass(frozen=True)
class Marks:
    """The marks: numbers of versions, ascending.

    Args:
        good: verified through the load balancer.
        void: left by a rollback, not to be chosen again.
    """

    good: tuple[int, ...] = ()
    void: tuple[int, ...] = ()

    @classmethod
    def from_tags(cls, tags: dict[str, str]) -> Marks:
        """Read the marks from a template's tags."""
        return cls(_numbers(tags.get(GOOD_TAG, "")), _numbers(tags.get(VOID_TAG, "")))

    def to_tags(self) -> dict[str, str]:
        """Write the marks as tags; those without a number are left out."""
        pairs = {GOOD_TAG: self.good, VOID_TAG: self.void}
        return {tag: " ".join(map(str, numbers[-_MOST[tag] :])) for tag, numbers in pairs.items() if numbers}

    def marked(self, *, good: list[int], void: list[int], unvoid: list[int]) -> Marks:
        """Return the marks after a change. A version is good or void, not both; to be good is to be void no more."""
        void_now = (set(self.void) | set(void)) - set(unvoid) - set(good)
        good_now = (set(self.good) | set(good)) - void_now
        return Marks(tuple(sorted(good_now)), tuple(sorted(void_now)))


def tags_of(resource: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a resource as EC2 describes it."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(word) for word in text.split() if word.isdigit()}))
