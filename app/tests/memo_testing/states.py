"""Every page of the service in every state, one after the other: what the checkers of the page look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from playwright.sync_api import Page, expect

OLDER = 60
"""More memos than one part of the list has."""


@dataclass(frozen=True)
class Tour:
    """A walk through the states, with a browser.

    Args:
        page: with its script running; nobody is logged in.
        url: the page's address.
        write: stores so many memos for the user who is logged in.
        cut: takes Redis away from the service.
    """

    page: Page
    url: str
    write: Callable[[int], None]
    cut: Callable[[], None]

    def states(self) -> Iterator[str]:
        """Bring the page into one state after the other.

        Yields:
            The state's name, fit for a file, while the page is in it.
        """
        yield from self._logged_out()
        yield from self._list()
        yield from self._search()
        yield from self._edit()
        yield from self._deleted()
        yield from self._account()
        yield from self._refused()
        yield from self._over()

    def _logged_out(self) -> Iterator[str]:
        self.page.goto(self.url)
        yield "login"
        self.page.goto(f"{self.url}?notice=login-state")
        yield "login-failed"

    def _list(self) -> Iterator[str]:
        page = self.page
        _log_in(page, self.url)
        expect(page.locator("#empty")).to_be_visible()
        yield "list-empty"
        self._save("우유와 빵, 그리고 커피 원두 ☕\n내일 아침까지")
        expect(page.locator("#memos .text")).to_have_count(1)
        yield "list-first-memo"
        self._save(" ")
        expect(page.locator("#message.error")).to_be_visible()
        yield "list-refused-by-script"
        page.goto(self.url)
        page.fill("#text", " ")
        self._submit("#new")
        yield "list-400"
        self._submit("#new", "x" * 201)
        yield "list-413"
        self.write(OLDER)
        page.goto(self.url)
        page.locator(".pin button").nth(2).click()
        expect(page.locator(".mark")).to_have_count(1)
        yield "list-pinned"
        address = page.get_attribute("#older", "href") or ""
        page.locator(".delete button").nth(3).click()
        expect(page.locator("#message button")).to_be_visible()
        yield "list-undo"
        page.locator("#message button").click()
        expect(page.locator("#message button")).to_have_count(0)
        yield "list-restored"
        page.goto(self.url.partition("/memo/")[0] + address)
        yield "list-older"

    def _search(self) -> Iterator[str]:
        for name, query in (("found", "memo"), ("not-found", "nowhere"), ("too-short", "a")):
            self.page.goto(f"{self.url}?q={query}")
            yield f"search-{name}"

    def _edit(self) -> Iterator[str]:
        page = self.page
        page.goto(self.url)
        link = page.locator("a.edit").nth(1)
        address = str(link.evaluate("(link) => link.href"))
        link.click()
        expect(page.locator(".edit-form textarea")).to_be_focused()
        yield "edit-in-place"
        page.locator(".edit-form textarea").fill("고친 메모")
        page.locator(".edit-form .primary").click()
        expect(page.locator(".edited")).to_have_count(1)
        yield "list-edited"
        page.goto(address)
        yield "edit"
        other = page.context.new_page()
        other.goto(address)
        other.fill("textarea", "다른 곳에서 고친 메모")
        other.click(".edit-form .primary")
        expect(other.locator("#memos")).to_be_visible()
        other.close()
        self._submit(".edit-form", "여기서 고친 메모")
        yield "edit-409"
        self._submit(".edit-form", " ")
        yield "edit-400"

    def _deleted(self) -> Iterator[str]:
        self.page.goto(self.url)
        self._submit(".memo .delete >> nth=0")
        yield "list-deleted-without-script"
        self.page.goto(f"{self.url}deleted")
        yield "deleted"
        self._submit(".memo form >> nth=0")
        yield "list-brought-back"
        self.page.goto(f"{self.url}deleted")
        yield "deleted-none"

    def _account(self) -> Iterator[str]:
        page = self.page
        elsewhere = page.context.browser
        assert elsewhere is not None
        with elsewhere.new_context() as other:
            _log_in(other.new_page(), self.url)
        page.goto(f"{self.url}account")
        expect(page.locator("#end-others")).to_be_visible()
        yield "account"
        page.fill("#token-name", "backup")
        page.press("#token-name", "Enter")
        expect(page.locator("#token")).to_be_visible()
        yield "account-new-token"
        page.fill("#token-name", " ")
        page.press("#token-name", "Enter")
        expect(page.locator("#message")).to_be_visible()
        yield "account-token-refused"
        for name, data in (("imported", _export("가져온 메모")), ("not-imported", b"{}")):
            page.goto(f"{self.url}account")
            page.set_input_files("#file", {"name": "memos.json", "mimeType": "application/json", "buffer": data})
            self._submit("form[enctype]")
            expect(page.locator("#message")).to_be_visible()
            yield f"account-{name}"
        page.fill("#confirm", "no")
        with page.expect_navigation():  # a message, about the import, is there already
            page.press("#confirm", "Enter")
        expect(page.locator("#message")).to_be_visible()
        yield "account-not-deleted"

    def _refused(self) -> Iterator[str]:
        page = self.page
        page.goto(f"{self.url}nothing")
        yield "error-404"
        page.goto(f"{self.url}logout")
        yield "error-405"
        page.goto(self.url)
        self._submit("#new", "x" * 10_000)
        yield "error-413"
        page.set_content(f'<form method="post" action="{self.url}memos"><input name="text" value="forged"></form>')
        self._submit("form")
        yield "error-403"

    def _over(self) -> Iterator[str]:
        page = self.page
        page.goto(self.url)
        page.context.clear_cookies(name="userId")
        self._save("세션이 끝난 뒤에 쓴 메모")
        expect(page.locator("#message a")).to_be_visible()
        yield "list-session-over"
        self._submit("#new", "세션이 끝난 뒤에 쓴 메모")
        yield "session-over"
        page.goto(f"{self.url}?notice=logged-out")
        yield "logged-out"
        page.context.add_cookies([{"name": "userId", "value": "A" * 43, "url": self.url}])
        self.cut()
        page.goto(self.url)
        yield "error-503"

    def _save(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.click("#new button")

    def _submit(self, form: str, text: str | None = None) -> None:
        """Send a form as a browser without the script does, past what the browser itself would refuse."""
        if text is not None:
            self.page.locator(f"{form} textarea").evaluate("(field, text) => (field.value = text)", text)
        with self.page.expect_navigation():
            self.page.locator(form).evaluate("(form) => HTMLFormElement.prototype.submit.call(form)")


def _log_in(page: Page, url: str) -> None:
    page.goto(url)
    page.click("#login")
    page.get_by_text("김민준").click()
    expect(page.locator("#greeting")).to_be_visible()
    page.wait_for_load_state()  # the script listens from then on


def _export(text: str) -> bytes:
    memo = {"text": text, "created_at": "2024-05-01T20:30:00Z"}
    return json.dumps({"format": "memo-export", "version": 1, "memos": [memo]}).encode()
