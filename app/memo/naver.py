"""Naver Login: an OAuth 2.0 code for a profile (naver/naver-openapi-guide)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from memo.config import Settings
from memo.models import USER_ID_LENGTH

_CONNECT_SECONDS = 3.05
_PROFILE_SUCCESS = "00"


class ProviderError(Exception):
    """The log-in cannot be finished: `reason` is `unavailable` or `rejected`, `detail` is for the log (no secrets)."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True)
class Profile:
    """Who logged in. Only the id is sure to be there: people may withhold every other field."""

    id: str
    name: str | None


class NaverLogin:
    """The provider, as this application uses it.

    Args:
        settings: client id and secret, base addresses, time-out.
    """

    def __init__(self, settings: Settings) -> None:
        self._client_id = settings.naver_client_id
        self._client_secret = settings.naver_client_secret
        self._authorize_url = f"{settings.naver_auth_url}/oauth2.0/authorize"
        self._token_url = f"{settings.naver_auth_url}/oauth2.0/token"
        self._profile_url = f"{settings.naver_api_url}/v1/nid/me"
        self._timeout = (min(_CONNECT_SECONDS, settings.naver_timeout), settings.naver_timeout)

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Where to send the browser."""
        with self._session(redirect_uri) as session:
            url, _ = session.create_authorization_url(self._authorize_url, state=state)
        return str(url)

    def profile(self, code: str, state: str, redirect_uri: str) -> Profile:
        """Exchange the callback's code for the person's profile.

        The access token is not kept: the service needs it once.

        Raises:
            ProviderError: the provider is down, slow or broken (`unavailable`), or refuses the code (`rejected`).
        """
        with self._session(redirect_uri) as session:
            try:
                # A refusal may come as HTTP 200 with {"error": …}; Authlib raises it whatever the status.
                token = session.fetch_token(
                    self._token_url,
                    body=urlencode({"state": state}),  # Naver wants it here too; Authlib's own `state` is not sent
                    grant_type="authorization_code",
                    code=code,
                    allow_redirects=False,
                )
                if not isinstance(token.get("access_token"), str):
                    raise ProviderError("unavailable", "the token answer has no access_token")
                response = session.get(self._profile_url, allow_redirects=False)
            except OAuthError as error:
                raise ProviderError("rejected", f"token: {_word(error.error)}") from None
            except requests.RequestException as error:
                raise ProviderError("unavailable", type(error).__name__) from None
            except (ValueError, TypeError, KeyError) as error:  # Authlib on an answer with wrong types
                raise ProviderError("unavailable", f"token answer: {type(error).__name__}") from None
        return _parse_profile(response)

    def _session(self, redirect_uri: str) -> OAuth2Session:
        return OAuth2Session(
            self._client_id,
            self._client_secret,
            redirect_uri=redirect_uri,
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - the name of a method
            default_timeout=self._timeout,
        )


def _parse_profile(response: requests.Response) -> Profile:
    try:
        body: Any = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        raise ProviderError("unavailable", f"profile: HTTP {response.status_code}, not JSON") from None
    if not isinstance(body, dict):
        raise ProviderError("unavailable", f"profile: HTTP {response.status_code}, not an object")
    resultcode, person = body.get("resultcode"), body.get("response")
    if response.status_code != requests.codes.ok or resultcode != _PROFILE_SUCCESS:
        reason = "unavailable" if response.status_code >= requests.codes.server_error else "rejected"
        raise ProviderError(reason, f"profile: HTTP {response.status_code}, resultcode {_word(resultcode)}")
    if not isinstance(person, dict):
        raise ProviderError("unavailable", "profile: no person")
    user_id, name = person.get("id"), person.get("name")
    if not isinstance(user_id, str) or not 0 < len(user_id) <= USER_ID_LENGTH:
        raise ProviderError("unavailable", "profile: no usable id")
    return Profile(user_id, name.strip() or None if isinstance(name, str) else None)


def _word(value: object) -> str:
    """A short code from outside, fit for the log."""
    text = str(value)
    return text if len(text) <= 40 and text.replace("_", "").isalnum() else "(unreadable)"
