"""What the page may say after a redirect: a short code in the address, never the words themselves."""

from __future__ import annotations

from flask_babel import gettext


def N_(words: str) -> str:  # noqa: N802 - the name by which gettext's tools know words to translate later
    """Mark words for the catalogue."""
    return words


NOTICES = {
    "login-refused": N_("You did not allow the log-in, so you are not logged in. You can try again at any time."),
    "login-state": N_("This log-in was too old, was used already, or began in another browser. Please log in again."),
    "login-rejected": N_("Naver did not accept this log-in. Please log in again."),
    "login-unavailable": N_("Naver does not answer right now. Please try again in a moment."),
    "logged-out": N_("You are logged out."),
    "session-over": N_("Your session is over, so nothing was changed. Please log in again."),
    "no-such-memo": N_("That memo is not there any more."),
    "saved": N_("Saved."),
    "changed": N_("Changed."),
    "deleted": N_("Memo deleted."),
    "restored": N_("The memo is back."),
    "pinned": N_("Pinned to the top."),
    "unpinned": N_("No longer pinned."),
    "session-ended": N_("That session is ended."),
    "sessions-ended": N_("All other sessions are ended."),
    "no-such-session": N_("That session was over already."),
    "token-revoked": N_("The token is revoked. Programs that use it are refused from now on."),
    "no-such-token": N_("That token was revoked already."),
    "account-going": N_("There is much to delete: some is left. Please confirm again to go on."),
    "account-deleted": N_("Your account and all your memos are deleted."),
    "unconfirmed": N_("Nothing was deleted: the word to confirm was not typed."),
}


def notice(code: str | None) -> str | None:
    """The words for a code, in the request's language; None for no code and for one we did not make."""
    return gettext(NOTICES[code]) if code in NOTICES else None
