"""Named sizes (batch, units, rois, ...) that the dimensions of several inputs must agree on."""

from __future__ import annotations

from collections.abc import Collection

from nnapi.ops.op import Call


class Sizes:
    """The sizes of one call, learned from its inputs; one that is none of `may_be_zero` must be at least 1."""

    def __init__(self, call: Call, may_be_zero: Collection[str] = ()) -> None:
        self._call = call
        self._may_be_zero = frozenset(may_be_zero)
        self._known: dict[str, tuple[int, str]] = {}

    def bind(self, name: str, *dimensions: str | int) -> None:
        """Input `name` has these dimensions: a size by its name, or a number; ModelError where that is not so."""
        shape = self._call.shape(name)
        for axis, (size, dimension) in enumerate(zip(shape or (), dimensions)):
            if size is None:
                continue
            if isinstance(dimension, int):
                self._call.require(
                    size == dimension, f"{name} has size {size} in dimension {axis}, must have {dimension}"
                )
            else:
                self.set(dimension, size, name)

    def set(self, symbol: str, size: int, name: str) -> None:
        """Input `name` says that a size is so; ModelError where another one says otherwise."""
        known, source = self._known.setdefault(symbol, (size, name))
        self._call.require(size == known, f"{name} has {symbol} {size}, must be {known} as in {source}")
        self._call.require(size > 0 or symbol in self._may_be_zero, f"{name} has {symbol} 0, must be at least 1")

    def __getitem__(self, symbol: str) -> int | None:
        """The size, None where no input says."""
        return self._known[symbol][0] if symbol in self._known else None
