"""Datasets that draw random numbers, and that write down what is read of them."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Each sample is its index, and a draw from each global stream; those in `refused` raise."""

    def __init__(self, length: int, refused: Sequence[int] = ()) -> None:
        self.length = length
        self.refused = refused

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = [random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn())]
        noise += [float(torch.rand(())), float(torch.randn(()))]
        if index in self.refused:
            raise ArithmeticError(f"sample {index} is broken")
        return torch.tensor(index), torch.tensor(noise, dtype=torch.float64)


class Written(Dataset[Tensor]):
    """Each sample is its index; whichever process reads one appends a line to a file: the index and the process."""

    def __init__(self, length: int, path: Path) -> None:
        self.length = length
        self.path = path

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        with self.path.open("a") as file:  # one small write: lines of several processes do not mix
            file.write(f"{index} {os.getpid()}\n")
        return torch.tensor(index)

    def read(self) -> list[int]:
        """The indices, in the order of reading."""
        return [index for index, _ in self._lines()]

    def readers(self) -> set[int]:
        """The processes that read anything."""
        return {process for _, process in self._lines()}

    def forget(self) -> None:
        self.path.write_text("")

    def _lines(self) -> list[tuple[int, int]]:
        words = [line.split() for line in self.path.read_text().splitlines()]
        return [(int(index), int(process)) for index, process in words]
