"""From a picture to a network's input, as data that travels with the network."""

from __future__ import annotations

import math
import os
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrpref.errors import BadInput, BadNetwork
from lrpref.files import regular
from lrpref.kernels.operations import Array
from lrpref.tables import fill, within

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels from 0 to 1, as torchvision's networks want them."""


@dataclass(frozen=True)
class Preprocessing:
    """
    Resize, crop, scale, and normalise: x = (pixel / divisor - mean) / std.

    Parameters
    ----------
    size : tuple of int
        Height and width (H, W) of the input.
    mean, std : tuple of float
        One per channel, in units of pixel / divisor.
    resize : int, optional
        Length of the shorter side before the centre crop (the longer one is rounded to the nearest
        pixel); not given: the picture is resized to
        `size`, whatever its proportions.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        How pictures are resized.
    channels : {"L", "RGB", "BGR"}
        Order of the channels.
    divisor : float
        255 for pixels from 0 to 1, 1 for pixels from 0 to 255.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: int | None = None
    interpolation: str = "bilinear"
    channels: str = "RGB"
    divisor: float = 255.0

    def __post_init__(self) -> None:
        n = 1 if self.channels == "L" else 3
        if self.channels not in ("L", "RGB", "BGR") or self.interpolation not in INTERPOLATIONS:
            raise BadNetwork(
                f"channels {self.channels!r}, interpolation {self.interpolation!r}; wants "
                f"L, RGB or BGR, and one of {', '.join(INTERPOLATIONS)}"
            )
        numbers = (*self.mean, *self.std, self.divisor)
        if not all(math.isfinite(v) for v in numbers) or min(self.size) < 1 or max(self.size) > 10_000:
            raise BadNetwork(
                f"size {self.size}, mean {self.mean}, std {self.std}, divisor {self.divisor}: "
                "sizes from 1 to 10000 and finite numbers are wanted"
            )
        if len(self.mean) != n or len(self.std) != n or min(self.std) <= 0 or self.divisor <= 0:
            raise BadNetwork(f"wants {n} means, {n} stds > 0 and a divisor > 0")
        if self.resize is not None and self.resize < max(self.size):
            raise BadNetwork(f"resize {self.resize} is smaller than the crop {self.size}")

    @classmethod
    def imagenet(cls, size: tuple[int, int] = (224, 224)) -> Preprocessing:
        """
        Give torchvision's for ImageNet: 224 pixels out of 256, in units of the pixels' standard deviation.

        Parameters
        ----------
        size : tuple of int
            Height and width of the input; the shorter side is resized to 256/224 of the larger.

        Returns
        -------
        Preprocessing
            The steps.
        """
        return cls(size, IMAGENET_MEAN, IMAGENET_STD, resize=round(max(size) * 256 / 224))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Preprocessing:
        """
        Read the steps from a TOML file.

        Parameters
        ----------
        path : path-like
            The file: this class's fields, at the top or in a table `[preprocessing]`.

        Returns
        -------
        Preprocessing
            The steps.

        Raises
        ------
        BadInput
            If the file cannot be read.
        BadNetwork
            If it says something else.
        """
        try:
            table = tomllib.loads(regular(path, BadInput).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadInput(f"{path}: not a TOML file ({error})") from None
        steps = table.get("preprocessing", table)
        with within(f"{path}"):
            if not isinstance(steps, dict):
                raise BadNetwork(f"preprocessing is {steps!r:.60}, wants a table")
            return fill(cls, steps)

    def shape(self) -> tuple[int, ...]:
        """
        Give the shape of one input.

        Returns
        -------
        tuple of int
            (C, H, W).
        """
        return (len(self.mean), *self.size)

    def __call__(self, picture: Any) -> Array:
        """
        Turn a picture into the network's input.

        Parameters
        ----------
        picture : path, PIL image, or ndarray of uint8, shape (H, W) or (H, W, 3)
            The picture.

        Returns
        -------
        ndarray of float64, shape (1, C, H, W)
            The input.

        Raises
        ------
        BadInput
            If the picture cannot be read.
        """
        return self.normalise(self.pixels(picture))

    def pixels(self, picture: Any) -> Array:
        """
        Read, resize and crop a picture.

        Parameters
        ----------
        picture : path, PIL image, or ndarray of uint8, shape (H, W) or (H, W, 3)
            The picture.

        Returns
        -------
        ndarray of uint8, shape (H, W, 3) or (H, W, 1)
            Pixels, red first.

        Raises
        ------
        BadInput
            If the picture cannot be read.
        """
        from PIL import Image

        image = _open(picture, "L" if self.channels == "L" else "RGB")
        method = Image.Resampling[self.interpolation.upper()]
        height, width = self.size
        if self.resize is None:
            image = image.resize((width, height), method) if image.size != (width, height) else image
        else:
            shorter = min(image.size)
            scaled = (round(image.width * self.resize / shorter), round(image.height * self.resize / shorter))
            if max(scaled) > 20 * self.resize:
                raise BadInput(
                    f"a picture of {image.width} x {image.height} pixels: one side is more than 20 "
                    "times the other"
                )
            image = image.resize(scaled, method)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        return np.asarray(image).reshape(height, width, -1)

    def normalise(self, pixels: Array) -> Array:
        """
        Scale and normalise pixels.

        Parameters
        ----------
        pixels : ndarray, shape (H, W, C) or (N, H, W, C)
            Pixels from 0 to 255, red first.

        Returns
        -------
        ndarray of float64, shape (N, C, H, W)
            The input.
        """
        x = pixels.reshape(-1, *pixels.shape[-3:]).astype(np.float64) / self.divisor
        if self.channels == "BGR":
            x = x[..., ::-1]
        return np.ascontiguousarray(((x - self.mean) / self.std).transpose(0, 3, 1, 2))

    def box(self) -> tuple[Array, Array]:
        """
        Give the bounds l and h of the z^B rule: black and white, normalised.

        Returns
        -------
        low, high : ndarray of float64, shape (C,)
            The bounds.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        return (0.0 - mean) / std, (255.0 / self.divisor - mean) / std

    def restore(self, x: Array) -> Array:
        """
        Turn an input back into pixels, to show it.

        Parameters
        ----------
        x : ndarray, shape (C, H, W)
            One input.

        Returns
        -------
        ndarray of float64, shape (H, W, C)
            Pixels from 0 to 1, red first.
        """
        pixels = x.transpose(1, 2, 0) * np.array(self.std) + np.array(self.mean)
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        return np.clip(pixels * self.divisor / 255.0, 0.0, 1.0)


EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
"""Pillow's modes of 8 bits; others would be cut off at 255 without a word."""


def _open(picture: Any, mode: str) -> Any:
    """Read a picture; transparency and the camera's orientation are ignored, as torchvision does."""
    from PIL import Image, UnidentifiedImageError

    name = picture if isinstance(picture, str | Path) else "the picture"
    try:
        if isinstance(picture, Image.Image):
            image = picture
        elif isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
                raise BadInput(
                    f"a picture of {picture.dtype} {picture.shape}: wants uint8 (H, W) or (H, W, 3)"
                )
            image = Image.fromarray(picture)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(regular(picture, BadInput))
                image.load()
        if image.mode not in EIGHT_BITS:
            raise BadInput(f"{name}: its pixels are of mode {image.mode}; save it with 8 bits per channel")
        if 0 in image.size:
            raise BadInput(f"{name}: has no pixels")
        return image.convert(mode)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError,
            MemoryError) as error:  # fmt: skip
        raise BadInput(f"{name}: not a picture that can be read ({type(error).__name__})") from None
