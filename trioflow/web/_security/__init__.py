"""Who may look and act: the settings, the guard that every request passes, and signing in.

What is decided lives in `settings`, `peers`, `sessions` and `attempts`, which know nothing of
pages; `guard` asks them, and `signing` is the pages of signing in and out.
"""
