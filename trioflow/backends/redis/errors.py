"""The driver's errors: which ones matter for connecting again, and trioflow's error for each."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import redis
from redis import exceptions

from trioflow.errors import BackendError, BackendUnavailable, CorruptStore, StoreFenced

__all__ = ["ANY", "BROKEN", "ELSEWHERE", "explain", "is_refusal"]

# The connection is of no use any more, and what was asked for may or may not have been done.
BROKEN: tuple[type[Exception], ...] = (
    redis.ConnectionError,  # includes: the server is loading its data
    redis.TimeoutError,
    OSError,
)
# All that the driver raises.
ANY: tuple[type[Exception], ...] = (redis.RedisError, OSError)
# This server does not write, but another one does, or will soon: after a failover.
ELSEWHERE: tuple[type[Exception], ...] = (
    exceptions.ReadOnlyError,
    exceptions.MovedError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
)

# A word of the answer, and what to do.
_REFUSALS = (
    ("OOM", "its memory is full, nothing was stored; raise maxmemory, or remove instances"),
    ("MISCONF", "it cannot write its snapshots, nothing was stored; see the server's log"),
    ("NOREPLICAS", "too few replicas follow it, nothing was stored; see min-replicas-to-write"),
    ("BUSY", "somebody's script blocks it; see SCRIPT KILL"),
    ("NOAUTH", "it wants a password; write redis://:password@host"),
    (
        "NOPERM",
        "the user may not do this; allow it scripts, and keys and channels of the store's prefix",
    ),
)


def is_refusal(error: Exception) -> bool:
    """Return whether connecting again is no use: a login is refused, or a certificate."""
    return isinstance(error, exceptions.AuthenticationError) or _distrusted(error)


def _distrusted(error: BaseException | None) -> bool:
    # The driver wraps it.
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def explain(error: Exception, where: str) -> BackendError:  # noqa: PLR0911 - a table of errors
    """Return trioflow's error for one of the driver's, saying what to do about it."""
    text = str(error)
    if isinstance(error, exceptions.AuthenticationError):
        return BackendUnavailable(f"{where} refuses the user or the password in the URL: {text}")
    if _distrusted(error):
        return BackendUnavailable(
            f"{where} has a certificate that is not trusted: {text}; name the file of who signed "
            "it by ssl_ca_certs, and the host as the certificate does"
        )
    if isinstance(error, ELSEWHERE):
        return BackendUnavailable(
            f"{where} does not take writes: {text}; name the primary in the URL, or write "
            "?cluster=true for a cluster"
        )
    if isinstance(error, BROKEN):
        return BackendUnavailable(
            f"{where} cannot be reached: {text}; see that it runs and that the URL is right. "
            "It is not known whether the last call was stored"
        )
    _, fenced, said = text.partition("FENCED ")
    if fenced:
        return StoreFenced(f"{where}: {said}")
    for word, advice in _REFUSALS:
        if word in text or (word in _BY_TYPE and _BY_TYPE[word](error)):
            return BackendUnavailable(f"{where}: {advice} ({text})")
    return CorruptStore(
        f"{where} holds something else than trioflow wrote, or is older than Redis 6: {text}; "
        "give trioflow a prefix of its own"
    )


def _forbidden(error: Exception) -> bool:
    # Within a script the words are others, before and since Redis 7.2 and in Valkey.
    text = str(error)
    told = "user executing" in text or "ACL failure" in text
    return told or isinstance(error, exceptions.NoPermissionError)


# Where the driver has taken the word away.
_BY_TYPE: dict[str, Callable[[Exception], bool]] = {
    "NOPERM": _forbidden,
    "OOM": lambda error: isinstance(error, exceptions.OutOfMemoryError),
}
