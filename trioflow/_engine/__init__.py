"""The engine: runs workflow functions deterministically, without I/O and without a store.

- ``loop``: a private trio scheduler, which is stepped;
- ``execution``: an execution as a fold over turns, live and on replay;
- ``calls``, ``children``, ``mailbox``, ``side_effects``: the calls that workflow code makes;
- ``pending``: the commands that these give, until they are answered;
- ``replay``: comparison with the stored history;
- ``forgotten``: detection of calls without an ``await``;
- ``suspension``: why an execution cannot go on;
- ``guard``: the determinism guard.
"""
