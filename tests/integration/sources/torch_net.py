"""Small networks as people write them; also given to `--module`, with their state dicts."""

import torch
import torch.nn.functional as functional
from torch import nn


class Residual(nn.Module):
    """A residual block: convolutions, batch norm, padded pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        x = self.pool(functional.relu(self.norm(self.stem(image))))
        return self.head(functional.relu(x + self.inner(x)).mean((2, 3)))


class Attention(nn.Module):
    """Token ids in, an encoder layer, two outputs by name."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.one, self.two = nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, ids):
        x = self.layer(self.table(ids)).mean(1)
        return {"intent": self.one(x), "mood": self.two(x)}


class Recurrent(nn.Module):
    """A GRU whose state the caller carries."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x, state):
        x, state = self.cell(x, state)
        return self.head(x), state


class Sound(nn.Module):
    """A grouped convolution in one dimension, and a gated linear unit."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(1, 8, 8, 4), nn.Conv1d(8, 16, 3, groups=2)

    def forward(self, wave):
        return functional.glu(self.second(functional.relu(self.first(wave.unsqueeze(1)))), 1).mean(2)


class Scalars(nn.Module):
    """Inputs of several dtypes, one of them without a dimension."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x, gain, mask, step):
        y = torch.where(mask, self.linear(x) * gain, torch.zeros_like(x))
        return y + step.to(torch.float32).unsqueeze(-1), y.argmax(-1)


class Branch(nn.Module):
    """What it computes depends on a value."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        if bool(x.sum() > 0):
            return self.linear(x)
        return -x


class Counter(nn.Module):
    """Keeps state between calls."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x * 2


class Noisy(nn.Module):
    """Draws random numbers."""

    def forward(self, x):
        return x + torch.rand_like(x)


class Sized(nn.Module):
    """Cannot be built without an argument."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(4, width)

    def forward(self, x):
        return self.linear(x)


def sized():
    return Sized(7)


def nothing():
    return "no network"
