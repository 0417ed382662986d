#!/usr/bin/env python3
"""Makes the fixtures under tests/fixtures with NumPy and PyTorch.

    target/peers/bin/python scripts/make_fixtures.py

scripts/setup_peers.sh makes that environment. tests/fixtures/README.md describes the files. The
same NumPy on the same kind of machine makes the same bytes. Takes half a minute.
"""

import contextlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import notebook

ROOT = Path(__file__).resolve().parent.parent
NAMES = ROOT / "data" / "dinos.txt"
FIXTURES = ROOT / "tests" / "fixtures"


def save(name, tensors):
    # With several metadata keys, their order would differ from run to run.
    save_file(
        {key: np.ascontiguousarray(value) for key, value in tensors.items()},
        FIXTURES / name,
        metadata={"numpy": np.__version__},
    )


# ---- The notebook's log --------------------------------------------------------------------------


def make_log(name, **options):
    text = NAMES.read_text(encoding="utf-8")
    with open(FIXTURES / name, "w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        notebook.model(text, n_a=50, **options)


def make_logs():
    make_log("notebook_dinos.log", num_iterations=35000)
    # Past the last debug line, which is that of the first iteration of the second epoch.
    make_log("notebook_dinos_verbose.log", num_iterations=1400, verbose=True)


# ---- NumPy's legacy random generator -------------------------------------------------------------

SEEDS = [0, 1, 2, 3, 42, 12345, 2**32 - 1]
DRAWS = 1500  # more than two fillings of the generator's 624 words, whatever is drawn
SHUFFLED_LENGTHS = [0, 1, 2, 3, 10, 257, 1325]
ROUNDS = 60


def choice_distributions():
    """Distributions over 27 symbols: even, two random ones, one with zeros, one certain symbol."""
    rng = np.random.RandomState(2718)
    flat = notebook.softmax(rng.randn(27))
    steep = notebook.softmax(rng.randn(27) * 4)
    gaps = np.where(np.arange(27) % 3 == 1, flat, 0)
    return {
        "even": np.full(27, 1 / 27),
        "flat": flat,
        "steep": steep,
        "gaps": gaps / gaps.sum(),
        "certain": np.eye(27)[5],
    }


def permutation(length):
    """np.random.shuffle of the list 0, 1, ..., length - 1."""
    items = list(range(length))
    np.random.shuffle(items)
    return np.array(items, dtype=np.uint16)


def words(count):
    """The next `count` words: with a range of 32 bits, nothing is masked or rejected."""
    return np.random.randint(0, 2**32, size=count, dtype=np.uint32)


def check_words_are_raw():
    """Checks that words() gives the raw output of the Mersenne Twister."""
    np.random.seed(5)
    drawn = words(2000)
    np.random.seed(5)
    raw = np.random.get_state(legacy=False)
    generator = np.random.MT19937()
    generator.state = raw
    assert np.array_equal(drawn, generator.random_raw(2000))
    # The 10,000th output for the seed 5489, which the C++ standard requires of std::mt19937.
    np.random.seed(5489)
    assert words(10000)[-1] == 4123659995


def interleaving(distribution):
    """Draws of all kinds in turn, in the order of the test."""
    values, permutations = [], []
    for _ in range(ROUNDS):
        values += [np.random.randn(), np.random.random_sample(), np.random.randn()]
        values += [np.random.randn()]  # caches the second value of its pair
        values += [float(words(1)[0])]  # an odd number of words
        permutations.append(permutation(10))
        values += [np.random.randn()]  # the cached value
        values += [float(np.random.choice(range(27), p=distribution))]
        values += [np.random.randn()]  # caches a value for the next round
    return np.array(values), np.array(permutations)


def make_numpy_random():
    check_words_are_raw()
    tensors = {"seeds": np.array(SEEDS, dtype=np.uint32)}
    distributions = choice_distributions()
    for name, distribution in distributions.items():
        tensors[f"p.{name}"] = distribution
    for seed in SEEDS:

        def put(key, draw):
            np.random.seed(seed)
            tensors[f"{seed}.{key}"] = draw()

        put("words", lambda: words(DRAWS))
        put("random_sample", lambda: np.random.random_sample(DRAWS))
        put("randn", lambda: np.random.randn(DRAWS))
        # Three odd-length calls: the value cached by one is the first of the next.
        put(
            "randn_odd",
            lambda: np.concatenate(
                [np.random.randn(3), np.random.randn(5), np.random.randn(1, 7).ravel()]
            ),
        )
        for length in SHUFFLED_LENGTHS:
            put(f"shuffle.{length}", lambda: permutation(length))
        for name, distribution in distributions.items():
            put(
                f"choice.{name}",
                lambda: np.random.choice(range(27), size=DRAWS, p=distribution).astype(np.uint8),
            )
        np.random.seed(seed)
        values, permutations = interleaving(distributions["flat"])
        tensors[f"{seed}.interleaved.values"] = values
        tensors[f"{seed}.interleaved.shuffles"] = permutations
    save("numpy_random.safetensors", tensors)


# ---- The notebook's test cells -------------------------------------------------------------------


def cell_parameters(n_a, n_x):
    """The parameters of the test cells: standard normal, biases too, in this order."""
    return {
        "Wax": np.random.randn(n_a, n_x),
        "Waa": np.random.randn(n_a, n_a),
        "Wya": np.random.randn(n_x, n_a),
        "b": np.random.randn(n_a, 1),
        "by": np.random.randn(n_x, 1),
    }


def expect(what, value, published):
    # The course publishes some of its numbers to eight decimal places.
    if not np.allclose(value, published, rtol=1e-11, atol=5e-9):
        raise SystemExit(f"{what}: {value}, but the notebook's course publishes {published}")


def clip_cell(max_value):
    np.random.seed(3)
    gradients = {
        "dWax": np.random.randn(5, 3) * 10,
        "dWaa": np.random.randn(5, 5) * 10,
        "dWya": np.random.randn(2, 5) * 10,
        "db": np.random.randn(5, 1) * 10,
        "dby": np.random.randn(2, 1) * 10,
    }
    return notebook.clip(gradients, max_value)


def make_seed_cells():
    tensors = {}

    published = {
        10: [10.0, -10.0, 0.2971381536101662, 10.0, 8.45833407],
        5: [5.0, -5.0, 0.2971381536101662, 5.0, 5.0],
    }
    for max_value in published:
        g = clip_cell(max_value)
        shown = [g["dWaa"][1][2], g["dWax"][3][1], g["dWya"][1][2], g["db"][4][0], g["dby"][1][0]]
        expect(f"clip, {max_value}", shown, published[max_value])
        for name, gradient in g.items():
            tensors[f"clip_{max_value}.{name.lower()}"] = gradient

    chars = "\nabcdefghijklmnopqrstuvwxyz"
    char_to_ix = {char: index for index, char in enumerate(chars)}
    np.random.seed(2)
    indices = notebook.sample(cell_parameters(100, 27), char_to_ix, 0)
    begin = "12 17 24 14 13 9 10 22 24 6 13 11 12 6 21 15 21 14 3 2 1 21 18 24 7 25 6 25 18 10 16"
    begin = [int(index) for index in f"{begin} 2 3 8 15 12 11 7 1 12 10 2 7".split()]
    expect("sample", indices[: len(begin)], begin)
    tensors["sample.indices"] = np.array(indices, dtype=np.uint32)

    np.random.seed(1)
    a_prev = np.random.randn(100, 1)
    parameters = cell_parameters(100, 27)
    X, Y = [12, 3, 5, 11, 22, 3], [4, 14, 11, 22, 25, 26]
    loss, g, a_last = notebook.optimize(X, Y, a_prev, parameters, learning_rate=0.01)
    shown = [loss, g["dWaa"][1][2], np.argmax(g["dWax"]), g["dWya"][1][2], g["db"][4][0]]
    expect("optimize", shown, [126.503975721654, 0.194709315347, 93, -0.007773876032, -0.06809825])
    expect("optimize", [g["dby"][1][0], a_last[4][0]], [0.01538192, -1.0])
    tensors["optimize.loss"] = np.array(loss)
    tensors["optimize.a_last"] = a_last
    for name, gradient in g.items():
        tensors[f"optimize.{name.lower()}"] = gradient

    save("seed_cells.safetensors", tensors)


# ---- PyTorch's AdamW -----------------------------------------------------------------------------

# So many that the bias corrections of both moments have come close to 1, or not at all: 0.9^200 is
# 7e-10, and 0.999^200 0.8.
ADAMW_STEPS = 200


def make_adamw():
    """ADAMW_STEPS of torch.optim.AdamW: random gradients, clipped; cosine decay."""
    import torch

    rng = np.random.RandomState(5)
    start, gradients = rng.randn(3, 4), rng.randn(ADAMW_STEPS, 3, 4)
    w = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.AdamW([w], lr=0.05, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=ADAMW_STEPS)
    weights = []
    for gradient in gradients:
        w.grad = torch.from_numpy(gradient.copy())
        torch.nn.utils.clip_grad_value_([w], 0.8)
        optimizer.step()
        schedule.step()
        weights.append(w.detach().numpy().copy())
    tensors = {"start": start, "gradients": gradients, "weights": np.stack(weights)}
    save_file(tensors, FIXTURES / "adamw.safetensors", metadata={"torch": torch.__version__})


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    make_seed_cells()
    make_numpy_random()
    make_adamw()
    make_logs()
    for path in sorted(FIXTURES.iterdir()):
        print(f"{path.stat().st_size:>8} {path.name}")


if __name__ == "__main__":
    main()
