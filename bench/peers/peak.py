"""Prints how many floating-point operations a CPU second of one thread of matrix products does at
best: of squares that fit the caches, and of the shapes that the model's layers have."""

import time

import torch

# Rows, columns, and the length of each sum. The last four are a batch of 8 reviews in MiniLM.
SHAPES = [
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (1664, 1152, 384),
    (1664, 384, 384),
    (1664, 1536, 384),
    (1664, 384, 1536),
]
REPETITIONS = 5
OPERATIONS = 5e9


def rate(rows, columns, inner):
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    product = torch.empty(rows, columns)
    operations = 2 * rows * columns * inner
    times = max(1, round(OPERATIONS / operations))
    torch.mm(left, right, out=product)
    rates = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        for _ in range(times):
            torch.mm(left, right, out=product)
        rates.append(operations * times / (time.process_time() - start))
    return max(rates)


torch.set_num_threads(1)
print(max(rate(*shape) for shape in SHAPES))
