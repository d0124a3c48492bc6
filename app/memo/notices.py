"""What the page may say after a redirect: a short code in the address, never the words themselves."""

from __future__ import annotations

NOTICES = {
    "login-refused": "You did not allow the log-in, so you are not logged in. You can try again at any time.",
    "login-state": "This log-in was too old, was used already, or began in another browser. Please log in again.",
    "login-rejected": "Naver did not accept this log-in. Please log in again.",
    "login-unavailable": "Naver does not answer right now. Please try again in a moment.",
    "logged-out": "You are logged out.",
    "session-over": "Your session is over, so nothing was changed. Please log in again.",
    "no-such-memo": "That memo is not there any more.",
}


def notice(code: str | None) -> str | None:
    """The words for a code; None for no code and for one we did not make."""
    return NOTICES.get(code) if code else None
