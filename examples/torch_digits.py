"""Train a small network on a view: a PyTorch dataset, record by record and a batch at a time.

Run it with ``python examples/torch_digits.py [STORE]`` (build/torch-digits by default). The 1,797
handwritten digits come with scikit-learn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import afresh
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import sqlstore

Batch: TypeAlias = tuple[Tensor, Tensor]
EPOCHS, BATCH = 4, 64


class Digits(Dataset[dict[str, Any]]):
    """The records of a view, one by one."""

    def __init__(self, view: sqlstore.View) -> None:
        self.view = view

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.view[position]


class BatchedDigits(Digits):
    """The same; the loader asks for whole batches, which are read in one go."""

    def __getitems__(self, positions: list[int]) -> list[dict[str, Any]]:
        return self.view.fetch(positions)


def collate(records: list[dict[str, Any]]) -> Batch:
    """Return images and labels as tensors; a network wants no dicts."""
    images = torch.from_numpy(np.stack([record["image"] for record in records]))
    return images.flatten(1) / 16, torch.tensor([record["label"] for record in records])


def main(argv: Sequence[str]) -> int:
    path = Path(argv[0] if argv else "build/torch-digits")
    afresh.clear(path)
    digits = load_digits()
    images = digits.images.astype(np.uint8)
    records = (
        {"image": image, "label": int(label), "split": "test" if number % 5 == 0 else "train"}
        for number, (image, label) in enumerate(zip(images, digits.target, strict=True))
    )
    with sqlstore.create(path, records) as store:  # what it holds, the records say
        afresh.mark(path)
        train = store.where("split = 'train'").select("image", "label")
        test = store.where("split = 'test'").select("image", "label")
        print(f"{len(train)} digits to learn from, {len(test)} to be tested with")
        for dataset in (Digits(train), BatchedDigits(train)):
            for workers in (0, 2):
                read(dataset, workers)
        read(train, 2)  # a view is such a dataset by itself

        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        shuffled = loader(BatchedDigits(train), 0, shuffle=True)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for epoch in range(EPOCHS):
            loss = learn(network, shuffled, optimizer)
            print(f"epoch {epoch}: loss {loss:.3f}, accuracy {accuracy(network, test):.1%}")
    return 0


def loader(dataset: Any, workers: int, *, shuffle: bool = False) -> DataLoader[Any]:
    """Return a loader; its workers get the view, not the records, and none opens SQLite."""
    return DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=workers, collate_fn=collate)


def read(dataset: Any, workers: int) -> None:
    """Go through everything once, and say how long it took."""
    began = time.perf_counter()
    labels = torch.cat([labels for _, labels in loader(dataset, workers)])
    taken = time.perf_counter() - began
    name = type(dataset).__name__
    print(f"{name}, {workers} workers: {len(labels)} digits in {1000 * taken:.0f} ms")


def learn(network: nn.Module, batches: DataLoader[Any], optimizer: torch.optim.Optimizer) -> float:
    """Go through everything once to learn from it, and return the last loss."""
    loss = torch.zeros(())
    for images, labels in batches:
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return loss.item()


def accuracy(network: nn.Module, view: sqlstore.View) -> float:
    """Return which share of a view the network gets right."""
    images, labels = collate(list(view))
    return float(((network(images).argmax(1) == labels) * 1.0).mean())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
