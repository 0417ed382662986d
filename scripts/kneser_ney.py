#!/usr/bin/env python3
"""Interpolated Kneser-Ney in plain Python, apart from src/ngram.rs and without its data structures.

    python3 scripts/kneser_ney.py

Writes tests/fixtures/kneser_ney.json, which `cargo test` compares with src/ngram.rs: for several
orders and discounts the loss of each of some names, in nats, after counting others.
"""

import functools
import json
import math
import random
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def model(counted: list[str], order: int, discount: float, characters: int):
    """The probability of a character after a context, with '^' for the start of a name and '$' for its end."""
    grams = defaultdict(int)  # of the highest order, or from the start of the name
    for name in set(counted):
        text = f"^{name}$"
        for i in range(1, len(text)):
            grams[text[max(0, i - order + 1) : i + 1]] += 1
    lefts = defaultdict(set)  # the characters before each shorter one
    for length in range(order, 1, -1):
        for gram in [gram for gram in {**grams, **lefts} if len(gram) == length]:
            lefts[gram[1:]].add(gram[0])
    counts = defaultdict(dict)
    for gram in {**grams, **lefts}:
        if gram != "^":
            counts[gram[:-1]][gram[-1]] = grams.get(gram, 0) or len(lefts[gram])

    def probability(context: str, character: str) -> float:
        context = context[max(0, len(context) - order + 1) :]
        lower = probability(context[1:], character) if context else 1 / characters
        after = counts.get(context)
        if not after:
            return lower
        total = sum(after.values())
        return max(after.get(character, 0) - discount, 0) / total + discount * len(after) / total * lower

    return probability


def losses(counted: list[str], names: list[str], order: int, discount: float, characters: int) -> list[float]:
    """-ln p of each of `names`, in nats."""
    probability = model(counted, order, discount, characters)

    def loss(name: str) -> float:
        text = f"^{name}$"
        return -sum(math.log(probability(text[:i], text[i])) for i in range(1, len(text)))

    return [loss(name) for name in names]


def sample(counted: list[str], order: int, discount: float, count: int) -> list[str]:
    """Names of at most 50 characters, of seed 1."""
    alphabet = sorted(set("".join(counted)) | {"$"})
    probability, generator = model(counted, order, discount, len(alphabet)), random.Random(1)
    weights = functools.cache(lambda context: [probability(context, character) for character in alphabet])
    names = []
    for _ in range(count):
        text = "^"
        while len(text) <= 50 and text[-1] != "$":
            text += generator.choices(alphabet, weights(text[max(0, len(text) - order + 1) :]))[0]
        names.append(text.strip("^$"))
    return names


def main() -> None:
    dinos = (ROOT / "data/dinos.txt").read_text(encoding="utf-8").lower().split()
    counted, names = dinos[::3], [*dinos[1::60], "a", "zzz"]
    cases = [
        {"order": order, "discount": discount, "losses": losses(counted, names, order, discount, 27)}
        for order, discount in [(1, 0.5), (2, 0.75), (3, 0.9), (6, 0.8), (9, 0.6)]
    ]
    fixture = {"counted": counted, "names": names, "cases": cases}
    path = ROOT / "tests/fixtures/kneser_ney.json"
    path.write_text(json.dumps(fixture) + "\n", encoding="utf-8")
    print(f"{path}: {len(names)} names, {len(cases)} models")


if __name__ == "__main__":
    main()
