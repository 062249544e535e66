"""A store in dictionaries: the oracle that `trioflow.testing.lockstep` judges stores by.

Written from the docstrings of `trioflow.backends.abc` and `trioflow.backends.records`, in the
plainest Python that does what they say: every question looks at all there is; nothing is indexed,
cached or counted apart. It shares no statement with any store, so that a mistake has to be made
twice, in two ways, to be overlooked. It is no store to work with: it is slow, and gone with its
process.

A method runs from its first checkpoint to its end without another one, which makes it a
transaction. A commit judges all of its units before it writes anything, so nothing is ever undone.
"""

from __future__ import annotations

from trioflow.testing.lockstep.model.backend import Model

__all__ = ["Model"]
