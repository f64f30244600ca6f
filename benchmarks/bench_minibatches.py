"""An epoch of shuffled mini-batches from tensors in memory: ours (rows of a permutation) against torch's DataLoader."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, TensorDataset

from harness import Row, compare
from vivace.optimization import minibatches


def rows() -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for n, shape, batch_size in ((1_797, (64,), 32), (60_000, (784,), 128), (60_000, (784,), 1)):
        X, labels = torch.randn(n, *shape), torch.arange(n)
        loader = DataLoader(TensorDataset(X, labels), batch_size=batch_size, shuffle=True)
        yield compare(
            f"an epoch of mini-batches, {n:,} rows of {shape[0]} in batches of {batch_size}",
            lambda X=X, labels=labels, m=batch_size: [
                (X.index_select(0, rows), labels.index_select(0, rows))[1] for rows in minibatches(len(X), m)
            ],
            lambda loader=loader: [some for _, some in loader],
            peer_name="torch DataLoader", repeats=5 if n > 10_000 else 21, agree=same_rows,
        )  # fmt: skip
    torch.set_num_threads(threads)


def same_rows(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> str:
    same = torch.equal(torch.cat(ours).sort().values, torch.cat(theirs).sort().values) and len(ours) == len(theirs)
    return "the same rows, once each" if same else "NOT the same rows"
