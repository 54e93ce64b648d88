# SPDX-License-Identifier: BSD-3-Clause
"""Train the embedded default network: a small CNN on Fashion-MNIST.

    python tools/train_embedded.py [output folder]

Writes `embedded_state.safetensors` (float32 state_dict), `fashion_500.npz` (a fixed, class-balanced slice of
the test set) and `model_card.json`. Needs torch, numpy, safetensors and Debian's `dataset-fashion-mnist`.
What is shipped is the state in the neutral format:

    lrpref convert lrpref/data/embedded_state.safetensors lrpref/data/fashion_cnn.safetensors \\
        --architecture fashion-cnn --overwrite

The last epoch's weights are kept whatever their accuracy, so the test set selects nothing. The run is seeded:
it repeats bit for bit on the same machine, torch version and thread count; elsewhere, up to rounding.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn

DATASET = Path("/usr/share/datasets/fashion-mnist")
OUTPUT = Path(__file__).resolve().parents[1] / "lrpref" / "data"
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip
SLICE_PER_CLASS = 50

BATCH, MAX_LR, MOMENTUM, WEIGHT_DECAY, SHIFT = 128, 0.1, 0.9, 5e-4, 2


class DatasetError(Exception):
    """The data set is missing or is not what it should be."""


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, data."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{path} not found; get it with: apt-get install dataset-fashion-mnist") from None
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DatasetError(f"{path} is not an IDX file of unsigned bytes")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=raw[3], offset=4))
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if data.size != np.prod(shape):
        raise DatasetError(f"{path} holds {data.size} bytes of data where its header says {shape}")
    return data.reshape(shape).copy()


def read_split(folder: Path, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 28, 28) and labels (count,) of one split, "train" or "t10k"."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    if images.shape != (count, 28, 28) or labels.shape != (count,) or labels.max() >= len(CLASSES):
        raise DatasetError(f"the {split} files in {folder} are not Fashion-MNIST's {count} images and labels")
    return images, labels


def build_network() -> nn.Sequential:
    """Five conv-BN-ReLU blocks (28 > 24 > 12 > 6 > 3 pixels a side), then three dense layers."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def conv(i: int, inputs: int, outputs: int, kernel: int, padding: int) -> None:
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
        layers[f"bn{i}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{i}"] = nn.ReLU()

    conv(1, 1, 32, kernel=5, padding=0)
    conv(2, 32, 32, kernel=3, padding=1)
    layers["pool1"] = nn.MaxPool2d(2)
    conv(3, 32, 48, kernel=3, padding=1)
    conv(4, 48, 48, kernel=3, padding=1)
    layers["pool2"] = nn.AvgPool2d(2)
    conv(5, 48, 64, kernel=3, padding=1)
    layers["pool3"] = nn.AvgPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(64 * 3 * 3, 64)
    layers["relu_fc1"] = nn.ReLU()
    layers["fc2"] = nn.Linear(64, 32)
    layers["relu_fc2"] = nn.ReLU()
    layers["fc3"] = nn.Linear(32, len(CLASSES))
    return nn.Sequential(layers)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image of (n, 28, 28) by up to SHIFT pixels, black comes in; mirror it or not, at random."""
    n, height, width = images.shape
    padded = nn.functional.pad(images, (SHIFT,) * 4)
    top, left = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator)
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """Bytes (n, 28, 28) to the network's input (n, 1, 28, 28)."""
    return ((images.float() / 255 - mean) / std).unsqueeze(1)


def predict(network: nn.Module, images: Tensor, mean: float, std: float) -> np.ndarray:
    """Predicted class of each image, with the batch norms in evaluation mode."""
    network.eval()
    with torch.no_grad():
        parts = [network(normalise(part, mean, std)).argmax(1) for part in images.split(1000)]
    return torch.cat(parts).numpy()


def train(
    network: nn.Module, images: Tensor, labels: Tensor, mean: float, std: float, epochs: int, seed: int
) -> Iterator[float]:
    """SGD with Nesterov momentum and a one-cycle learning rate; yields the mean loss after each epoch."""
    generator = torch.Generator().manual_seed(seed)
    steps = len(images) // BATCH  # the last, partial batch is left out: other images in each epoch
    optimizer = torch.optim.SGD(
        network.parameters(), lr=MAX_LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, epochs=epochs, steps_per_epoch=steps)
    for _ in range(epochs):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(images), generator=generator)[: steps * BATCH].split(BATCH):
            inputs = normalise(augment(images[batch], generator), mean, std)
            loss = nn.functional.cross_entropy(network(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        yield total / steps


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of the first `count` images of each class, in ascending order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(len(CLASSES))]))


def write_card(path: Path, card: dict) -> None:
    """JSON, indented, with each innermost list on one line."""
    text = json.dumps(card, indent=2)
    path.write_text(re.sub(r"\[\s+([^\[\]]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n")


def write_outputs(
    output: Path,
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    mean: float,
    std: float,
    training: dict[str, int],
) -> None:
    """Write the weights, the slice of the test set and the model card; `training` goes into the card."""
    predicted = predict(network, torch.from_numpy(images), mean, std)
    index = first_of_each_class(labels, SLICE_PER_CLASS)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (labels, predicted), 1)
    recall = confusion.diagonal() / confusion.sum(axis=1)

    output.mkdir(parents=True, exist_ok=True)
    # Leave out num_batches_tracked, an integer that evaluation does not use; load_state_dict does without it.
    state = {k: v.numpy() for k, v in network.state_dict().items() if v.is_floating_point()}
    (output / "embedded_state.safetensors").write_bytes(save(state))
    np.savez_compressed(
        output / "fashion_500.npz",
        images=images[index],
        labels=labels[index],
        index=index.astype(np.uint16),
    )
    write_card(
        output / "model_card.json",
        {
            "name": "lrpref embedded default network",
            "licence_of_weights": "BSD-3-Clause",
            "script": "tools/train_embedded.py",
            "data": {
                "name": "Fashion-MNIST",
                "source": "https://github.com/zalandoresearch/fashion-mnist",
                "debian_package": "dataset-fashion-mnist",
                "copyright": "2017 Zalando SE",
                "licence": "MIT",
                "training_images": 60_000,
                "test_images": len(images),
                "slice": f"fashion_500.npz: first {SLICE_PER_CLASS} images of each class, test-set order",
                "classes": CLASSES,
            },
            "preprocessing": {"formula": "(pixel / 255 - mean) / std", "mean": mean, "std": std},
            "architecture": {
                "words": "input 1x28x28; five conv-BN-ReLU blocks (first kernel 5x5 without padding, then "
                "3x3 with padding 1; 32, 32, 48, 48, 64 channels; no conv bias); 2x2 max pooling after "
                "block 2, 2x2 average pooling after blocks 4 and 5; dense layers 576-64-32-10 with biases "
                "and ReLU between them; the outputs are logits",
                "layers": [f"{name}: {layer}" for name, layer in network.named_children()],
                "parameters": sum(p.numel() for p in network.parameters()),
            },
            "training": {
                **training,
                "batch_size": BATCH,
                "loss": "cross-entropy",
                "optimizer": f"SGD, Nesterov momentum {MOMENTUM}, weight decay {WEIGHT_DECAY}",
                "schedule": f"OneCycleLR, maximum {MAX_LR}",
                "augmentation": f"shift by up to {SHIFT} pixels, horizontal flip",
                "weights_kept": "last epoch",
                "torch": torch.__version__,
            },
            "test_accuracy": float((predicted == labels).mean()),
            "accuracy_500": float((predicted == labels)[index].mean()),
            "accuracy_per_class": dict(zip(CLASSES, recall.tolist(), strict=True)),
            "confusion_rows_true_columns_predicted": confusion.tolist(),
        },
    )
    for name in ("embedded_state.safetensors", "fashion_500.npz", "model_card.json"):
        print(f"{name}: {(output / name).stat().st_size} bytes")


def run(dataset: Path, output: Path, epochs: int, seed: int, threads: int) -> None:
    train_images, train_labels = read_split(dataset, "train", 60_000)
    test_images, test_labels = read_split(dataset, "t10k", 10_000)
    mean = round(float(train_images.mean() / 255), 4)
    std = round(float(train_images.std() / 255), 4)

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    network = build_network()
    print(f"mean {mean}, std {std}, {epochs} epochs, seed {seed}, {threads} threads", flush=True)

    start = time.monotonic()
    images, labels = torch.from_numpy(train_images), torch.from_numpy(train_labels).long()
    losses = train(network, images, labels, mean, std, epochs, seed)
    for epoch, loss in enumerate(losses, start=1):
        predicted = predict(network, torch.from_numpy(test_images), mean, std)
        accuracy = (predicted == test_labels).mean()
        seconds = time.monotonic() - start
        print(f"epoch {epoch:2d}  loss {loss:.4f}  test accuracy {accuracy:.2%}  {seconds:.0f} s", flush=True)

    training = {"epochs": epochs, "seed": seed, "threads": threads}
    write_outputs(output, network, test_images, test_labels, mean, std, training)


def positive(text: str) -> int:
    """An argument that counts something."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the embedded default network on Fashion-MNIST.")
    parser.add_argument("output", nargs="?", type=Path, default=OUTPUT, help="folder (default: lrpref/data)")
    parser.add_argument("--dataset", type=Path, default=DATASET, help="IDX files (default: %(default)s)")
    parser.add_argument("--epochs", type=positive, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=positive, default=2)
    args = parser.parse_args()
    try:
        run(args.dataset, args.output, args.epochs, args.seed, args.threads)
    except DatasetError as error:
        print(f"train_embedded: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
