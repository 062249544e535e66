"""Rows for Redis: one call of a small script for each, a commit in one pipeline."""

from __future__ import annotations

from typing import Any

import redis

from benchmarks.raw.rows import Rows

__all__ = ["RedisWriter"]

_TAG = "{trioflow-raw}"
# What is written for a row; its columns are ARGV.
_SCRIPTS = {
    "instance": """
        redis.call('HSET', p .. 'i:' .. ARGV[1], 'execution', 1, 'workflow', ARGV[2],
            'queue', 'default', 'status', 'running', 'parent', ARGV[3], 'parent_execution', ARGV[4],
            'parent_command', ARGV[5], 'turns', 1, 'events', 3, 'worker', 'w', 'input', ARGV[6],
            'created_at', ARGV[7])
        redis.call('ZADD', p .. 'status:running', 1, ARGV[1])
        redis.call('ZADD', p .. 'held:w', 'inf', ARGV[1])""",
    "turn": "redis.call('RPUSH', p .. 't:' .. ARGV[1] .. ':1', ARGV[3])",
    "activity": """
        redis.call('HSET', p .. 'a:' .. ARGV[1], ARGV[2], ARGV[3])
        redis.call('SADD', p .. 'running:w', ARGV[1] .. ARGV[2])""",
    "message": "redis.call('HSET', p .. 'x:' .. ARGV[1], ARGV[2], ARGV[3])",
    "notify": "redis.call('ZADD', p .. 'held:w', ARGV[1], ARGV[2])",
    "take": "redis.call('ZADD', p .. 'held:w', 'inf', ARGV[1])",
    "close": """
        redis.call('HSET', p .. 'i:' .. ARGV[3], 'status', 'completed', 'outcome', ARGV[1],
            'finished_at', ARGV[2], 'turns', 2, 'worker', '')
        redis.call('ZREM', p .. 'status:running', ARGV[3])
        redis.call('ZADD', p .. 'status:completed', 1, ARGV[3])
        redis.call('ZADD', p .. 'finished', ARGV[2], ARGV[3])
        redis.call('ZREM', p .. 'held:w', ARGV[3])""",
    "consumed": "redis.call('HDEL', p .. 'x:' .. ARGV[1], ARGV[2])",
    "finished": """
        redis.call('HDEL', p .. 'a:' .. ARGV[1], ARGV[2])
        redis.call('SREM', p .. 'running:w', ARGV[1] .. ARGV[2])""",
}


class RedisWriter:
    """Writes with the prefix ``{trioflow-raw}``."""

    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._remove()
        self._scripts = {
            kind: self._client.script_load(f"local p = KEYS[1] .. ':'\n{text}\nreturn 1")
            for kind, text in _SCRIPTS.items()
        }

    def commit(self, rows: Rows) -> None:
        """Write the rows of one commit."""
        pipeline = self._client.pipeline(transaction=False)
        for kind, values in rows.items():
            for row in values:
                words = ["" if value is None else value for value in row]
                pipeline.execute_command("EVALSHA", self._scripts[kind], 1, _TAG, *words)
        pipeline.execute()

    def counts(self) -> tuple[int, int]:
        """Return how many instances have ended, and how many of them have anything left."""
        left = sum(1 for kind in "xa" for _ in self._names(f"{kind}:"))
        return self._client.zcard(f"{_TAG}:finished"), left

    def close(self) -> None:
        """Remove what has the prefix."""
        self._remove()
        self._client.close()

    def _names(self, start: str = "") -> Any:
        return self._client.scan_iter(f"{_TAG}:{start}*", count=1000)

    def _remove(self) -> None:
        for name in self._names():
            self._client.unlink(name)
