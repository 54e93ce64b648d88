"""Write the checkpoints that tests/test_checkpoint.py reads. Needs PyTorch; the test does not.

    python tests/data/make_checkpoints.py

All values follow from short formulas, which the test states again in NumPy. Written with PyTorch 2.13.0. A
second run gives the same tensors in files that differ in a few bytes: the legacy format names
a storage after its address in memory.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


def save(value: object, name: str) -> None:
    """Write one object in both containers."""
    torch.save(value, HERE / f"{name}.pt")
    torch.save(value, HERE / f"{name}-legacy.pt", _use_new_zipfile_serialization=False)


def of_each_dtype() -> dict[str, torch.Tensor]:
    tensors = {}
    for dtype in (torch.float64, torch.float32, torch.float16):
        tensors[str(dtype).removeprefix("torch.")] = (torch.arange(6) / 2 - 1).to(dtype)
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8):
        tensors[str(dtype).removeprefix("torch.")] = (torch.arange(6) * 40 - 100).to(dtype)
    tensors["uint8"] = (torch.arange(6) * 40).to(torch.uint8)
    tensors["uint16"] = (torch.arange(6) * 13000).to(torch.uint16)
    tensors["bool"] = torch.arange(6) % 3 == 0
    # Bit patterns over the whole range; then zeros, subnormals, infinities and NaNs (a signalling one first).
    hard = [0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x7F80, 0xFF80, 0x7F81, 0x7FC0, 0xFFFF]
    bits = torch.cat([torch.arange(0, 65536, 521), torch.tensor(hard)])
    tensors["bfloat16"] = torch.where(bits < 32768, bits, bits - 65536).to(torch.int16).view(torch.bfloat16)
    return tensors


def views() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0)
    tied = torch.arange(3.0)
    tagged = torch.arange(2.0)
    tagged.tag = "a tensor with an attribute is pickled differently"
    parameter = torch.nn.Parameter(torch.arange(2.0))
    parameter.tag = "and so is such a parameter"
    return {
        "plain": base.reshape(4, 6),
        "transposed": base.reshape(4, 6).t(),
        "strided": base[::5],
        "offset": base[7:11],
        "expanded": base[1:4].expand(2, 3),
        "one": base[3:4].expand(2, 1)[:1],
        "channels_last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5),
        "element": base[5],
        "empty": torch.empty(0, 3),
        "empty_slice": base[::2][4:4],
        "transposed_bool": (torch.arange(6).reshape(2, 3) % 2 == 0).t(),
        "tied.a": tied,
        "tied.b": tied,
        "parameter": torch.nn.Parameter(torch.arange(2.0)),
        "tagged": tagged,
        "tagged_parameter": parameter,
    }


def model() -> torch.nn.Module:
    layers = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 3))
    with torch.no_grad():
        for start, tensor in enumerate(layers.state_dict().values()):
            tensor.copy_((torch.arange(tensor.numel()) + start).reshape(tensor.shape))
    return layers


def training() -> dict[str, object]:
    """What a training script saves: the weights of a DataParallel model and everything else."""
    wrapped = torch.nn.DataParallel(model())
    optimizer = torch.optim.SGD(wrapped.parameters(), momentum=0.9)
    sum(parameter.sum() for parameter in wrapped.parameters()).backward()
    weights = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    return {
        "epoch": 3,
        "best_acc": torch.tensor(0.75),
        "best_loss": np.float64(0.5),
        "arch": None,
        "args": {"lr": 1e-3, "layers": [1, 2, (3, 4)], "big": 1 << 80, "resume": False, 7: "seven"},
        "namespace": argparse.Namespace(workers=2),
        "classes": {"cat", "dog"},
        "note": b"bytes",
        "history": np.arange(3),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "state_dict": weights,
    }


def main() -> None:
    save(of_each_dtype(), "dtypes")
    save(views(), "views")
    save(training(), "training")
    save(model().state_dict(), "model")
    torch.save({"w": torch.arange(3.0)}, HERE / "protocol5.pt", pickle_protocol=5)
    torch.save({"w": torch.arange(2.0) * 1j}, HERE / "complex.pt")
    torch.save({"w": torch.eye(2).to_sparse()}, HERE / "sparse.pt")
    torch.save(torch.nn.Linear(2, 1), HERE / "whole.pt")
    torch.serialization.set_crc32_options(False)
    torch.save({"w": torch.arange(3.0)}, HERE / "unchecked.pt")
    shapes = {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3)}
    save_file(of_each_dtype() | shapes, HERE / "dtypes.safetensors")
    save_file({"w": torch.arange(2.0).to(torch.float8_e4m3fn)}, HERE / "float8.safetensors")


if __name__ == "__main__":
    main()
