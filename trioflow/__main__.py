"""``python -m trioflow``: the command line."""

from __future__ import annotations

from trioflow._cli import main

if __name__ == "__main__":
    main()
