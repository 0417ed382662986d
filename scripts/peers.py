#!/usr/bin/env python3
"""The peers of scripts/compare.py, which runs this with target/peers/bin/python. Prints microseconds.

    peers.py versions                            NumPy's and PyTorch's
    peers.py numpy-train NAMES ITERATIONS        notebook training: microseconds an iteration
    peers.py torch-train NAMES ITERATIONS
    peers.py torch-step HIDDEN BATCH STEPS       a training step on random names
    peers.py numpy-sample MODEL COUNT            names from a char-rnn model file: microseconds a name
    peers.py torch-sample MODEL COUNT

Imports, set-up and a warm-up are not timed. NumPy works in float64 and name by name, as the notebook
does; PyTorch in float32 with its own fused RNN, as its users would write it.
"""

import contextlib
import io
import os
import statistics
import sys
import time

HIDDEN = 50
VOCABULARY = 27
LONGEST_NAME = 50
LEARNING_RATE = 0.01
CLIP = 5
WARM_UP = 200  # iterations, or names


def timed(work, count):
    """Microseconds that each of `count` takes when `work` does them all."""
    start = time.perf_counter()
    work(count)
    return (time.perf_counter() - start) / count * 1e6


# ---- NumPy ---------------------------------------------------------------------------------------------------------


def numpy_train(names, iterations):
    import notebook

    with open(names, encoding="utf-8") as file:
        text = file.read()

    def train(count):
        with contextlib.redirect_stdout(io.StringIO()):
            notebook.model(text, count, HIDDEN)

    train(WARM_UP)
    return timed(train, iterations)


def numpy_sample(model, count):
    """The notebook's sampling, without seeding the generator before each draw, which it does for its grading and which
    costs more than the draw."""
    import notebook
    import numpy as np
    from safetensors.numpy import load_file

    tensors = load_file(model)
    column = lambda x: x.astype(np.float64).reshape(len(x), -1)
    parameters = {name.capitalize() if name[0] == "w" else name: column(x) for name, x in tensors.items()}
    n_y, n_a = parameters["Wya"].shape
    np.random.seed(0)

    def sample(count):
        for _ in range(count):
            x, a = np.zeros((n_y, 1)), np.zeros((n_a, 1))
            indices = []
            while (not indices or indices[-1] != 0) and len(indices) < LONGEST_NAME:
                a, y_hat = notebook.rnn_step_forward(parameters, a, x)
                indices.append(np.random.choice(range(n_y), p=y_hat.ravel()))
                x = notebook.one_hot(indices[-1], n_y)

    sample(WARM_UP)
    return timed(sample, count)


# ---- PyTorch -------------------------------------------------------------------------------------------------------


def torch_trainer(hidden, batch):
    """A function that trains on one-hot inputs x (T, B, V) and targets y (T, B), and carries the state on."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(1)
    rnn, output = nn.RNN(VOCABULARY, hidden, nonlinearity="tanh"), nn.Linear(hidden, VOCABULARY)
    parameters = [*rnn.parameters(), *output.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE)
    state = torch.zeros(1, batch, hidden)

    def step(x, y):
        nonlocal state
        optimizer.zero_grad()
        states, last = rnn(x, state)
        loss = functional.cross_entropy(output(states).flatten(0, 1), y.flatten(), reduction="sum") / batch
        loss.backward()
        nn.utils.clip_grad_value_(parameters, CLIP)
        optimizer.step()
        state = last.detach()
        return loss.item()

    return step


def torch_example(targets):
    """x (T, B, V) and y (T, B) for targets (T, B): each step's input is the target before, the first one zero."""
    import torch
    from torch.nn import functional

    y = torch.tensor(targets)
    x = torch.zeros(*y.shape, VOCABULARY)
    x[1:] = functional.one_hot(y[:-1], VOCABULARY)
    return x, y


def torch_train(names, iterations):
    with open(names, encoding="utf-8") as file:
        names = file.read().split()
    # Encoded once, before the clock, to PyTorch's advantage: NumPy and ours encode as they go.
    examples = [torch_example([[ord(char) - ord("a") + 1] for char in name] + [[0]]) for name in names]
    step = torch_trainer(HIDDEN, 1)

    def train(count):
        for i in range(count):
            step(*examples[i % len(examples)])

    train(WARM_UP)
    return timed(train, iterations)


def torch_step(hidden, batch, steps):
    import numpy as np

    random = np.random.default_rng(2)
    examples = []
    for _ in range(16):
        targets = random.integers(1, VOCABULARY, (steps, batch))
        targets[-1] = 0
        examples.append(torch_example(targets))
    step = torch_trainer(hidden, batch)

    def train(count):
        for i in range(count):
            step(*examples[i % len(examples)])

    count = 1
    while (micros := timed(train, count)) * count < 3e5:
        count *= 2
    return statistics.median([micros] + [timed(train, count) for _ in range(2)])


def torch_best(names, hidden, batch, iterations):
    """Training as `train --best` does it: embedding, dropout, soft targets and AdamW. Names are padded."""
    import torch
    from torch import nn
    from torch.nn import functional

    with open(names, encoding="utf-8") as file:
        names = [[ord(char) - ord("a") + 1 for char in name] + [0] for name in file.read().split()]
    torch.manual_seed(1)
    embedding = nn.Embedding(VOCABULARY + 1, hidden, padding_idx=VOCABULARY)
    rnn, output = nn.RNN(hidden, hidden, nonlinearity="tanh"), nn.Linear(hidden, VOCABULARY)
    parameters = [*embedding.parameters(), *rnn.parameters(), *output.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.004, weight_decay=0.05)
    examples = []
    for first in range(0, len(names) - batch + 1, batch):
        group = names[first : first + batch]
        y = torch.full((max(map(len, group)), batch), -1)
        for i, name in enumerate(group):
            y[: len(name), i] = torch.tensor(name)
        x = torch.full_like(y, VOCABULARY)
        x[1:] = torch.where(y[:-1] > 0, y[:-1], VOCABULARY)
        # The n-gram model's share is not what is timed: half one-hot, half uniform.
        q = functional.one_hot(y.clamp(min=0), VOCABULARY) * 0.5 + 0.5 / VOCABULARY
        examples.append((x, q * (y >= 0).unsqueeze(2)))

    def train(count):
        for i in range(count):
            x, q = examples[i % len(examples)]
            optimizer.zero_grad()
            states, _ = rnn(embedding(x))
            mask = (torch.rand(batch, hidden) >= 0.4) / 0.6
            log_p = functional.log_softmax(output(states * mask), 2)
            (-(q * log_p).sum() / batch).backward()
            nn.utils.clip_grad_value_(parameters, CLIP)
            optimizer.step()

    train(WARM_UP)
    return timed(train, iterations)


def torch_sample(model, count):
    """All names side by side, a step at a time, until the last has ended."""
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional

    p = load_file(model)

    def sample(count):
        a, x = torch.zeros(count, p["waa"].shape[0]), torch.zeros(count, VOCABULARY)
        names, going = [[] for _ in range(count)], torch.arange(count)
        for _ in range(LONGEST_NAME):
            a = torch.tanh(x @ p["wax"].T + a @ p["waa"].T + p["b"])
            indices = torch.multinomial(torch.softmax(a @ p["wya"].T + p["by"], 1), 1).squeeze(1)
            more = indices != 0
            going, a, indices = going[more], a[more], indices[more]
            if not len(going):
                break
            for name, index in zip(going.tolist(), indices.tolist()):
                names[name].append(index)
            x = functional.one_hot(indices, VOCABULARY).float()

    with torch.inference_mode():
        sample(WARM_UP)
        return timed(sample, count)


def main():
    task, *arguments = sys.argv[1:]
    if task == "versions":
        import numpy
        import torch

        print(f"NumPy {numpy.__version__}, PyTorch {torch.__version__}, Python {sys.version.split()[0]}")
        return
    if task.startswith("torch"):
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    work = globals()[task.replace("-", "_")]
    print(work(*(int(a) if a.isdigit() else a for a in arguments)))


if __name__ == "__main__":
    main()
