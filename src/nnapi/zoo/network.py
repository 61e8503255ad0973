"""What the zoo knows about a network: how to build it, which inputs it takes, where it was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from nnapi.errors import UsageError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """One row of the zoo's table.

    A *size* is the side of an image `[N, C, size, size]`, the tokens of a sequence `[N, size, D]`, or the
    features of a vector `[N, size]`.
    """

    name: str
    build: Callable[[Shape], nn.Module]
    """The module for an input shape; the weights are not set yet, and most modules ignore the shape."""
    input_shape: Shape
    """As published, batch 1."""
    small_input_shape: Shape
    """A small valid input, for slow reference checks."""
    sizes: range
    source: str
    """The paper."""
    section: str = ""
    """What AI Benchmark uses the network for; empty where it does not."""

    def shape(self, *, size: int | None = None, small: bool = False) -> Shape:
        """The input shape, at its published size unless told otherwise.

        Raises `UsageError` for a size that the network cannot take.
        """
        if size is None:
            return self.small_input_shape if small else self.input_shape
        if small:
            raise UsageError("size= and small= exclude each other")
        if size not in self.sizes:
            first, last, step = self.sizes[0], self.sizes[-1], self.sizes.step
            allowed = f"{first}" if first == last else f"{first} to {last}, in steps of {step}"
            raise UsageError(f"{self.name}: size {size} is not {allowed}")
        batch, channels, *rest = self.input_shape
        return (batch, channels, size, size) if len(rest) == 2 else (batch, size, *rest)
