#!/usr/bin/env python3
"""The notebook's model() in NumPy: the reference for `char-rnn train --notebook`, also in timings.

    python scripts/notebook.py NAMES [--iterations 35000] [--hidden 50] [--verbose] [--time]

Prints the notebook's log: for iteration 0, 2000, 4000, ... the smoothed loss, an empty line, seven
sampled names, two empty lines. NAMES has one name a line. Plain NumPy, as in the notebook and the
course's `utils` that it imports: one matrix product per step, column vectors, float64, NumPy's
legacy random generator.

Dimensions: n_a hidden units, n_x = n_y characters, T time steps. Parameters and gradients are
dictionaries: Wax (n_a, n_x), Waa (n_a, n_a), Wya (n_y, n_a), b (n_a, 1), by (n_y, 1); gradients are
named dWax, dWaa, ...
"""

import argparse
import contextlib
import os
import sys
import time

import numpy as np

LEARNING_RATE = 0.01
CLIP = 5
REPORT_EVERY = 2000
NAMES_PER_REPORT = 7
MAX_LENGTH = 50


# ---- The course's utils --------------------------------------------------------------------------


def softmax(z):
    """z (n_y, 1) -> probabilities (n_y, 1), without overflow."""
    e = np.exp(z - np.max(z))
    return e / e.sum(axis=0)


def initialize_parameters(n_a, n_x, n_y):
    """Weights normal with standard deviation 0.01, in this order; biases zero."""
    np.random.seed(1)
    return {
        "Wax": np.random.randn(n_a, n_x) * 0.01,
        "Waa": np.random.randn(n_a, n_a) * 0.01,
        "Wya": np.random.randn(n_y, n_a) * 0.01,
        "b": np.zeros((n_a, 1)),
        "by": np.zeros((n_y, 1)),
    }


def one_hot(index, size):
    """Column (size, 1) with a one at `index`; zeros for None, the first input."""
    x = np.zeros((size, 1))
    if index is not None:
        x[index] = 1
    return x


def rnn_step_forward(parameters, a_prev, x):
    """One step: x (n_x, 1), a_prev (n_a, 1) -> state a (n_a, 1), probabilities y_hat (n_y, 1)."""
    a = np.tanh(np.dot(parameters["Wax"], x) + np.dot(parameters["Waa"], a_prev) + parameters["b"])
    y_hat = softmax(np.dot(parameters["Wya"], a) + parameters["by"])
    return a, y_hat


def rnn_forward(X, Y, a_prev, parameters):
    """All T steps of X from the state a_prev. Returns the loss in nats, summed over T, and the
    cache (y_hat, a, x): dictionaries by time step, where a[-1] is a_prev."""
    n_x = parameters["Wax"].shape[1]
    x, a, y_hat = {}, {-1: a_prev}, {}
    loss = 0
    for t in range(len(X)):
        x[t] = one_hot(X[t], n_x)
        a[t], y_hat[t] = rnn_step_forward(parameters, a[t - 1], x[t])
        loss -= np.log(y_hat[t][Y[t], 0])
    return loss, (y_hat, a, x)


def rnn_step_backward(dy, gradients, parameters, x, a, a_prev):
    """Adds the gradients of one time step. dy (n_y, 1) is the gradient of the logits, and
    gradients["da_next"] (n_a, 1) that of the state, through the step after."""
    gradients["dWya"] += np.dot(dy, a.T)
    gradients["dby"] += dy
    da = np.dot(parameters["Wya"].T, dy) + gradients["da_next"]
    da_raw = (1 - a * a) * da  # back through tanh
    gradients["db"] += da_raw
    gradients["dWax"] += np.dot(da_raw, x.T)
    gradients["dWaa"] += np.dot(da_raw, a_prev.T)
    gradients["da_next"] = np.dot(parameters["Waa"].T, da_raw)


def rnn_backward(X, Y, parameters, cache):
    """Back through all T steps. Returns the gradients and the states."""
    y_hat, a, x = cache
    gradients = {"d" + name: np.zeros_like(value) for name, value in parameters.items()}
    gradients["da_next"] = np.zeros_like(a[0])
    for t in reversed(range(len(X))):
        dy = np.copy(y_hat[t])
        dy[Y[t]] -= 1  # derivative of -log softmax(z)[Y] by z
        rnn_step_backward(dy, gradients, parameters, x[t], a[t], a[t - 1])
    return gradients, a


def update_parameters(parameters, gradients, learning_rate):
    """One step of gradient descent, in place."""
    for name in parameters:
        parameters[name] += -learning_rate * gradients["d" + name]


def get_initial_loss(vocab_size, seq_length):
    """The initial smoothed loss: that of `seq_length` uniform characters, in nats."""
    return -np.log(1.0 / vocab_size) * seq_length


def smooth(loss, current_loss):
    """Exponential moving average of the loss."""
    return loss * 0.999 + current_loss * 0.001


def print_sample(indices, ix_to_char):
    """Prints a name, which ends in a newline, with its first character capitalised."""
    text = "".join(ix_to_char[index] for index in indices)
    print(text[0].upper() + text[1:], end="")


# ---- The notebook --------------------------------------------------------------------------------


def clip(gradients, max_value):
    """Clips every entry to [-max_value, max_value], in place. Returns the five gradients."""
    clipped = {name: gradients[name] for name in ["dWaa", "dWax", "dWya", "db", "dby"]}
    for gradient in clipped.values():
        np.clip(gradient, -max_value, max_value, out=gradient)
    return clipped


def sample(parameters, char_to_ix, seed):
    """Samples one name, character by character. Returns its indices, the last of them the newline.

    As in the notebook, which does it for grading, the generator is seeded anew for every character
    with counter + seed, and both are incremented. A name of MAX_LENGTH characters gets a newline,
    even if it ends in one."""
    newline = char_to_ix["\n"]
    n_y, n_a = parameters["Wya"].shape
    x = np.zeros((n_y, 1))
    a = np.zeros((n_a, 1))
    indices = []
    index = -1
    counter = 0
    while index != newline and counter != MAX_LENGTH:
        a, y_hat = rnn_step_forward(parameters, a, x)
        np.random.seed(counter + seed)
        index = np.random.choice(range(n_y), p=y_hat.ravel())
        indices.append(index)
        x = one_hot(index, n_y)
        seed += 1
        counter += 1
    if counter == MAX_LENGTH:
        indices.append(newline)
    return indices


def optimize(X, Y, a_prev, parameters, learning_rate):
    """Forward, backward, clip, update. Returns the loss, the clipped gradients, the last state."""
    loss, cache = rnn_forward(X, Y, a_prev, parameters)
    gradients, a = rnn_backward(X, Y, parameters, cache)
    gradients = clip(gradients, CLIP)
    update_parameters(parameters, gradients, learning_rate)
    return loss, gradients, a[len(X) - 1]


def model(text, num_iterations, n_a, verbose=False):
    """Trains on the names of `text`, one a line, and prints the log. Returns the parameters."""
    chars = sorted(set(text.lower()))
    char_to_ix = {char: index for index, char in enumerate(chars)}
    ix_to_char = {index: char for index, char in enumerate(chars)}
    vocab_size = len(chars)

    parameters = initialize_parameters(n_a, vocab_size, vocab_size)
    loss = get_initial_loss(vocab_size, NAMES_PER_REPORT)

    examples = [line.lower().strip() for line in text.splitlines()]
    if verbose:
        print(loss)
        print(examples)
    np.random.seed(0)
    np.random.shuffle(examples)

    # The notebook keeps the state from name to name.
    a_prev = np.zeros((n_a, 1))

    for j in range(num_iterations):
        index = j % len(examples)
        example = examples[index]
        example_indices = [char_to_ix[char] for char in example]
        X = [None] + example_indices
        Y = X[1:] + [char_to_ix["\n"]]

        current_loss, _, a_prev = optimize(X, Y, a_prev, parameters, LEARNING_RATE)

        if verbose and j in [0, len(examples) - 1, len(examples)]:
            print("j = ", j, "idx = ", index)
        if verbose and j == 0:
            print("single_example =", example)
            print("single_example_chars", list(example))
            print("single_example_ix", example_indices)
            print(" X = ", X, "\n", "Y = ", Y, "\n")

        loss = smooth(loss, current_loss)

        if j % REPORT_EVERY == 0:
            print("Iteration: %d, Loss: %f" % (j, loss) + "\n")
            for seed in range(NAMES_PER_REPORT):
                print_sample(sample(parameters, char_to_ix, seed), ix_to_char)
            print("\n")

    return parameters


def main():
    parser = argparse.ArgumentParser(
        description="The notebook's model() in NumPy. Prints the notebook's log."
    )
    parser.add_argument("names", metavar="NAMES", help="text file, one name a line")
    parser.add_argument(
        "--iterations", type=int, default=35000, help="names to train on (default: %(default)s)"
    )
    parser.add_argument(
        "--hidden", type=int, default=50, help="hidden units (default: %(default)s)"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="also print the notebook's debug lines"
    )
    parser.add_argument(
        "--time",
        action="store_true",
        help="print only the microseconds of an iteration, sampling included, on standard error",
    )
    arguments = parser.parse_args()

    with open(arguments.names, encoding="utf-8") as file:
        text = file.read()

    if not arguments.time:
        model(text, arguments.iterations, arguments.hidden, arguments.verbose)
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        start = time.perf_counter()
        model(text, arguments.iterations, arguments.hidden, arguments.verbose)
        seconds = time.perf_counter() - start
    print(f"{seconds / arguments.iterations * 1e6:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
