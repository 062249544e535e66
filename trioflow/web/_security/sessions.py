"""Sessions and tokens: signed texts, which only those who have the key can make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping

import msgspec

__all__ = ["SESSION_SECONDS", "Session", "Sessions", "find_user", "same"]

SESSION_SECONDS = 12 * 3600.0
"""How long a session lasts."""

_LONGEST = 2_000  # characters of a cookie of ours; more is not looked at
_MOST_ENDED = 10_000


class Session(msgspec.Struct, frozen=True):
    """Somebody who has signed in: a name, which session it is, and when it ends."""

    user: str
    id: str
    ends_at: float


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Session).decode


def same(one: str, other: str) -> bool:
    """Compare two texts in a time that tells nothing of either, not their lengths either."""
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Sessions:
    """Makes sessions, and reads those that it has made.

    A session is its cookie: nothing is kept of it, but which were signed out before their time.

    Args:
        key: What they are signed with.
        clock: Epoch seconds.
    """

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock
        self._ended: dict[str, float] = {}
        # Cookies of one host are shared by its ports: two of these pages must not meet.
        self.cookie = f"trioflow-{self._sign('cookie', b'').hex()[:8]}"

    def begin(self, user: str) -> str:
        """Return the cookie of a new session."""
        session = Session(user, secrets.token_hex(16), self._clock() + SESSION_SECONDS)
        data = _encode(session)
        return f"{_text(data)}.{_text(self._sign('session', data))}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; ``None`` if it is not ours, or over."""
        data, _, signature = cookie.partition(".")
        if len(cookie) > _LONGEST or not signature:
            return None
        try:
            raw = _bytes(data)
            signed = hmac.compare_digest(self._sign("session", raw), _bytes(signature))
            session = _decode(raw) if signed else None
        except (ValueError, msgspec.MsgspecError):
            return None
        if session is None or session.ends_at <= self._clock() or session.id in self._ended:
            return None
        return session

    def end(self, session: Session) -> None:
        """Sign somebody out: the session's cookie counts no more."""
        now = self._clock()
        if len(self._ended) >= _MOST_ENDED:
            self._ended = {id: at for id, at in self._ended.items() if at > now}
        self._ended[session.id] = session.ends_at

    def token(self, *whose: str) -> str:
        """Return what a form of ours carries, and no foreign page can know."""
        return _text(self._sign("token", _encode(whose)))

    def is_token(self, given: str, *whose: str) -> bool:
        """Return whether a form was ours."""
        return same(given, self.token(*whose))

    def _sign(self, purpose: str, data: bytes) -> bytes:
        return hmac.digest(self._key, purpose.encode() + b"\0" + data, "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    if "=" in text:  # each cookie has one form only
        raise ValueError("padded")
    return base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)


def find_user(given: str, name: str, password: str | Mapping[str, str] | None) -> bool:
    """Return whether this is the password of that name; it takes as long for names that are none.

    Args:
        given: What somebody has typed.
        name: Who they say they are.
        password: The one of all, or those by name.
    """
    if isinstance(password, str):
        return bool(password) and same(given, password)
    found = False
    for known, theirs in (password or {}).items():
        found |= same(name, known) & same(given, theirs)
    return found
