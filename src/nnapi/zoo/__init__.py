"""Networks as plain PyTorch modules in their published shapes, with seeded random weights.

>>> module, inputs = build("mobilenet_v2", small=True)
>>> [*inputs[0].shape], [*module(*inputs).shape]
([1, 3, 64, 64], [1, 1000])
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnapi.errors import MissingExtra, ModelError

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingExtra("nnapi.zoo", extra="torch") from error

from nnapi.zoo import (
    deeplab_v3_plus,
    digits,
    inception_v3,
    mlp,
    mobilenet_v2,
    mobilenet_v3,
    srgan,
    transformer,
    unet,
    vdsr,
    vgg19,
    weights,
)
from nnapi.zoo.digits import train_digits
from nnapi.zoo.network import Network

__all__ = ["NETWORKS", "Network", "build", "train_digits"]

FAMILIES = (
    mobilenet_v2,
    mobilenet_v3,
    inception_v3,
    unet,
    srgan,
    vdsr,
    deeplab_v3_plus,
    vgg19,
    mlp,
    transformer,
    digits,
)

NETWORKS: Mapping[str, Network] = MappingProxyType(
    {network.name: network for family in FAMILIES for network in family.NETWORKS}
)


def build(
    name: str, seed: int = 0, *, size: int | None = None, small: bool = False
) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The network in evaluation mode, and example inputs for it, at its published size unless told otherwise.

    The weights depend on the seed alone where the architecture does not depend on the size.
    Raises `ModelError` for an unknown name, `UsageError` for a size that the network cannot take.

    >>> module, (x,) = build("mlp")
    >>> x.shape, module(x).shape
    (torch.Size([1, 784]), torch.Size([1, 10]))
    """
    if name not in NETWORKS:
        raise ModelError(f"no network {name!r} in the zoo", hint=f"known: {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    shape = network.shape(size=size, small=small)
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        module = network.build(shape)
    module = weights.initialize(module, network.input_shape, generator)
    return module, (weights.sample(shape, generator),)
