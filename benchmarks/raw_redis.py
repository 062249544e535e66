"""The limit to compare with on Redis: the rows of the bench tree, written with no engine.

The rows and commits of `benchmarks.raw_writer`; each row is one call of a small script that writes
what belongs to it, and a commit is one pipeline of them.

Run it: ``python -m benchmarks.raw_redis URL [roots]``. It uses a prefix of its own.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import redis

from benchmarks.raw_writer import commits_of

__all__ = ["raw_redis"]

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


def raw_redis(url: str, roots: int, *, batch: int = 100) -> dict[str, float]:
    """Write the rows of ``roots`` bench trees.

    Args:
        url: Of the server.
        roots: How many trees, all at once.
        batch: How many instances take one step in a commit.

    Returns:
        As `benchmarks.raw_writer.raw_sqlite`.
    """
    client: Any = redis.Redis.from_url(url)
    names = {
        kind: client.script_load(f"local p = KEYS[1] .. ':'\n{text}\nreturn 1")
        for kind, text in _SCRIPTS.items()
    }
    rows = commits = instances = 0
    began = time.perf_counter()
    try:
        for commit in commits_of(roots, batch):
            pipeline = client.pipeline(transaction=False)
            for kind, each in commit.items():
                for row in each:
                    words = ["" if value is None else value for value in row]
                    pipeline.execute_command("EVALSHA", names[kind], 1, _TAG, *words)
                rows += len(each)
            pipeline.execute()
            instances += len(commit.get("instance", ()))
            commits += 1
        seconds = time.perf_counter() - began
        for name in client.scan_iter(f"{_TAG}:*", count=1000):
            client.unlink(name)
    finally:
        client.close()
    return {
        "workflows": instances,
        "rows": rows,
        "commits": commits,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "workflows_per_second": instances / seconds,
    }


def _main() -> None:
    url, *rest = sys.argv[1:]
    for name, value in raw_redis(url, int(rest[0]) if rest else 50).items():
        print(f"{name:22} {value:,.1f}")


if __name__ == "__main__":
    _main()
