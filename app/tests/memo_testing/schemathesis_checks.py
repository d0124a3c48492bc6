"""What Schemathesis cannot know of this API: a memo that was deleted can be brought back.

Its own check `use_after_free` takes only a POST to the collection for that, so `tests/web/schemathesis.toml` has it
off, and this stands in its place. Schemathesis loads this file: see `test_api_contract.py`.
"""

from __future__ import annotations

import schemathesis

_ONE = "/memo/{memo_id}"


@schemathesis.check
class DeletedMemoIsGone:
    """A memo that was deleted, and not brought back since, is found by nobody.

    Only the stateful phase asks one question after the other, so only there is known what came last.
    """

    def __init__(self) -> None:
        self._deleted: set[int] = set()

    def after_response(
        self, ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
    ) -> bool | None:
        """Look at an answer.

        Raises:
            AssertionError: the memo should be gone.
        """
        memo = str(case.path_parameters.get("memo_id", ""))
        if ctx.phase != "stateful" or not (memo.isascii() and memo.isdigit()):
            return None
        method, path, answered = case.method.upper(), case.operation.path, response.status_code < 400
        if not answered:
            return None
        if (method, path) == ("POST", f"{_ONE}/restore"):
            self._deleted.discard(int(memo))
        elif path == _ONE:
            assert int(memo) not in self._deleted, f"memo {memo} was deleted, and {method} finds it"
            if method == "DELETE":
                self._deleted.add(int(memo))
        return None
