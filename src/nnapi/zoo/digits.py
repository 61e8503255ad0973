"""A small network that reads scikit-learn's 8x8 digits, and its training, in seconds on a CPU."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.errors import MissingExtra
from nnapi.zoo.network import Network
from nnapi.zoo.weights import initialize

SIDE = 8
BATCH = 64
TEST_IMAGES = 360  # of 1,797
LEARNING_RATE = 1e-2


class Digits(nn.Module):
    """`x [N, 1, 8, 8] -> logits [N, 10]`; three convolutions, each with a batch normalization to fold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(64)
        self.head = nn.Linear(64 * (SIDE // 4) ** 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.norm3(self.conv3(x))), 2)
        return self.head(x.flatten(1))


NETWORKS = (
    Network(
        "digits",
        build=lambda shape: Digits(),
        input_shape=(1, 1, SIDE, SIDE),
        small_input_shape=(1, 1, SIDE, SIDE),
        sizes=range(SIDE, SIDE + 1),
        source="Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits, doi 10.24432/C50P49 (the data)",
    ),
)


def load_digits(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Scikit-learn's digits in random order: `images [1797, 1, 8, 8]` from -1 to 1, `labels [1797]`.

    Raises `MissingExtra` without scikit-learn.
    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise MissingExtra("nnapi.zoo.train_digits", extra="dev") from error
    pixels, labels = datasets.load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=generator)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, SIDE, SIDE) / 8 - 1
    return images[order], torch.tensor(labels, dtype=torch.int64)[order]


def train_digits(seed: int = 0, epochs: int = 12) -> tuple[nn.Module, float, tuple[torch.Tensor, torch.Tensor]]:
    """Train `Digits`; returns the module in evaluation mode, its accuracy, and the images and labels it was tested on.

    `images [360, 1, 8, 8]`, `labels [360]`; the same seed gives the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    images, labels = load_digits(generator)
    test = images[:TEST_IMAGES], labels[:TEST_IMAGES]
    images, labels = images[TEST_IMAGES:], labels[TEST_IMAGES:]
    with torch.device("meta"):
        module: nn.Module = Digits()
    initialize(module, NETWORKS[0].input_shape, generator).train()
    optimizer = torch.optim.Adam(module.parameters())
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for first in range(0, len(images), BATCH):
            batch = order[first : first + BATCH]
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(module(images[batch]), labels[batch]))
            optimizer.step()
            schedule.step()
    module.eval()
    with torch.no_grad():
        correct = module(test[0]).argmax(1) == test[1]
    return module, float(correct.float().mean()), test
