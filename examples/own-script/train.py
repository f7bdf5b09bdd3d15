"""Learns to tell the digits 3 and 8 apart from noisy drawings, as many a first script does."""

import argparse
import json
import math
import os
import random
import time

DRAWINGS = {
    3: ["#####", "....#", ".####", "....#", "#####"],
    8: ["#####", "#...#", "#####", "#...#", "#####"],
}


def sample(rng, noise):
    digit = rng.choice([3, 8])
    pixels = [float(c == "#") for row in DRAWINGS[digit] for c in row]
    return [p + rng.gauss(0, noise) for p in pixels], float(digit == 8)


def predict(weights, bias, pixels):
    return 1 / (1 + math.exp(-(bias + sum(w * p for w, p in zip(weights, pixels)))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each epoch")
    args = parser.parse_args()

    rng = random.Random(int(os.environ.get("SEED", "1")))
    train = [sample(rng, args.noise) for _ in range(10_000)]
    test = [sample(rng, args.noise) for _ in range(10_000)]
    weights, bias = [0.0] * 25, 0.0
    for epoch in range(1, args.epochs + 1):
        loss = 0.0
        for pixels, label in train:
            p = predict(weights, bias, pixels)
            loss -= math.log(max(1e-9, p if label else 1 - p))
            weights = [w + args.lr * (label - p) * x for w, x in zip(weights, pixels)]
            bias += args.lr * (label - p)
        print(f"epoch {epoch}/{args.epochs}  loss={loss / len(train):.4f}", flush=True)
        time.sleep(args.pause)

    right = sum((predict(weights, bias, pixels) > 0.5) == bool(label) for pixels, label in test)
    print(f"accuracy={right / len(test):.3f}")
    os.makedirs("/model", exist_ok=True)
    with open("/model/weights.json", "w") as file:
        json.dump({"weights": weights, "bias": bias}, file)


if __name__ == "__main__":
    main()
