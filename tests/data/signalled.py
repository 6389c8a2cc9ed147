"""A training program for a test that signals its whole process group: `python -m tests.data.signalled`.

Its data is a `DataLoader` of its own with two workers. It prints each update as it finishes it, and its end.
"""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainhooks import BatchEnd, Evaluation, every, supervised, train

WORKERS = 2


def told(ctx: BatchEnd) -> None:
    print(f"update {ctx.at.updates}", flush=True)
    time.sleep(0.1)  # so that a signal comes within the epoch, and the death of a worker is heard of


def started(worker: int) -> None:
    print(f"worker {worker} is {torch.initial_seed() % 2**32}", flush=True)


def loader() -> DataLoader[tuple[torch.Tensor, ...]]:
    data = TensorDataset(torch.ones(400, 3), torch.zeros(400, dtype=torch.long))
    return DataLoader(data, batch_size=2, num_workers=WORKERS, worker_init_fn=started)


def main() -> None:
    torch.set_num_threads(1)
    model = nn.Linear(3, 2)
    data, looked_at = loader(), loader()
    result = train(
        model, data, supervised(nn.functional.cross_entropy), torch.optim.SGD(model.parameters(), 0.1), epochs=1,
        evaluations=[Evaluation("val", looked_at, when=every(150, "updates"))], hooks={"on_batch_end": told},
        on_interrupt="return",
    )  # fmt: skip
    print(f"{result.end}, {data.worker_init_fn is started}, {looked_at.worker_init_fn is started}", flush=True)


if __name__ == "__main__":
    main()
