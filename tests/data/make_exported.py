"""Write the programs that tests/test_exported.py reads. Needs PyTorch; the test does not.

    python tests/data/make_exported.py

Each `exported-NAME.pt2` has its input and PyTorch's own output in exported.npz. Written with PyTorch 2.13.0.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

HERE = Path(__file__).parent


class Pictures(nn.Module):
    """Most of what networks for pictures are made of."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.relu, self.drop, self.head = nn.ReLU6(inplace=True), nn.Dropout(), nn.Linear(6, 5)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), persistent=False)

    def forward(self, x):
        x = self.stem((x - self.mean) / torch.tensor(0.25))
        x = self.relu(self.left(x) + self.right(x))
        x += F.avg_pool2d(x, 3, 1, 1)
        _, b = x.chunk(2, 1)
        x = torch.cat([F.max_pool2d(x, 2, ceil_mode=True), b[..., ::2, ::2]], 1)
        return F.softmax(self.head(self.drop(x.mean((2, 3)))), 1)


class Signals(nn.Module):
    """One-dimensional layers, in another precision, for any number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(2, 3, 3, stride=2), nn.ConvTranspose1d(3, 2, 3, stride=2)
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(22, 4)

    def forward(self, x):
        x = self.up(F.gelu(self.norm(self.down(x))))
        return self.head(x.view(x.size(0), -1))


def filled(module: nn.Module) -> nn.Module:
    """Give it numbers that short binary fractions are."""
    with torch.no_grad():
        for i, (name, values) in enumerate(module.state_dict().items()):
            if values.is_floating_point():
                numbers = torch.arange(values.numel()).reshape(values.shape)
                values.copy_((numbers * 7 + i * 5) % 13 / 8 - (0 if name.endswith("var") else 0.75))
                values += 0.25 if name.endswith("var") else 0
    return module.eval()


def save(name: str, module: nn.Module, x: torch.Tensor, **options: object) -> dict[str, np.ndarray]:
    """Write a program without the paths of this machine, and give what PyTorch computes."""
    program = torch.export.export(module, (x,), **options)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, HERE / f"exported-{name}.pt2")
    with torch.no_grad():
        return {f"{name}.x": x.double().numpy(), f"{name}.y": module(x).double().numpy()}


def main() -> None:
    numbers = torch.arange(2 * 3 * 9 * 9).reshape(2, 3, 9, 9) * 11 % 17 / 16
    arrays = save("pictures", filled(Pictures()), numbers)
    any_number = ({0: torch.export.Dim("samples")},)
    signal = numbers.flatten()[:44].reshape(2, 2, 11)
    arrays |= save("signals", filled(Signals()).double(), signal.double(), dynamic_shapes=any_number)
    arrays |= save("half", filled(nn.Sequential(nn.Linear(3, 2))).bfloat16(), numbers[:, :, 0, 0].bfloat16())
    np.savez(HERE / "exported.npz", **arrays)


if __name__ == "__main__":
    main()
