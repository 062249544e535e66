"""The MySQL and MariaDB store."""

from __future__ import annotations

from trioflow.backends.mysql.backend import MysqlBackend

__all__ = ["MysqlBackend"]
