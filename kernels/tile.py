"""The innermost product: a tile of the output that lives in registers while a sum runs.

BLAS copies ("packs") both factors of a product before it multiplies, and does so again for each tap of
a convolution. Here the weights were laid out once, and the image is read where it lies: so a tile of
`OUTPUTS` output channels times up to 3 vectors of neighbouring pixels is all that is left to do::

                     pixels: 3 vectors of 16 float32 (with AVX-512)
                   +----------------+----------------+----------------+
    channel k      | z[k,  0 .. 15] | z[k, 16 .. 31] | z[k, 32 .. 47] |   24 registers
      ...          |      ...       |                |                |
    channel k + 7  |                |                |                |
                   +----------------+----------------+----------------+
    for each tap t and input channel c:    z[k, x]  +=  w[t, c, k] * image[c, x + offset[t]]

One step loads 3 vectors and 8 numbers, and does 24 multiply-adds. Neither Python nor Numba has a word
for a vector register, so this one loop is written in LLVM's language, as Numba itself does it. Where
the processor's vectors are shorter, so are these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir  # type: ignore[import-untyped, unused-ignore]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

code: Any = cgutils  # writes loops and variables in LLVM's language
_FEATURES = binding.get_host_cpu_features()

VECTOR = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
"""Bytes of a vector."""

_AHEAD = 64
"""Steps between the weights that are read and those that are asked for."""

_INT32 = ir.IntType(32)

OUTPUTS = 4 if _FEATURES.get("sse2") and VECTOR < 64 else 8
"""Output channels of a tile: 24 of 32 registers hold sums; before AVX-512 12 of 16, 4 hold factors."""


def _make_tile(vectors: int) -> Callable[..., None]:
    """Write the loop for so many vectors of pixels."""

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def tile(
        typing: Any, image: Any, image_at: Any, plane: Any, offsets: Any, taps: Any, channels: Any,
        w: Any, w_at: Any, z: Any, z_at: Any, z_plane: Any, add: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        arrays = image, number, number, offsets, number, number, w, number, z, number, number, number

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def data(index: int, at: Any) -> Any:
                array = context.make_array(signature.args[index])(context, builder, arguments[index])
                return builder.gep(array.data, [at])

            real = context.get_value_type(image.dtype)
            lanes = VECTOR // (image.dtype.bitwidth // 8)
            _write_loop(builder, real, lanes, vectors, data, arguments)
            return context.get_dummy_value()

        return types.void(*arrays), generate

    return tile  # type: ignore[no-any-return, unused-ignore]


def _prefetch(builder: Any, pointer: Any) -> None:
    """Ask for what will be read soon."""
    byte = ir.IntType(8).as_pointer()
    function_type = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
    ask = code.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    read, keep, data = _INT32(0), _INT32(3), _INT32(1)
    builder.call(ask, [builder.bitcast(pointer, byte), read, keep, data])


def _write_loop(builder: Any, real: Any, lanes: int, vectors: int, data: Any, arguments: Any) -> None:
    """Write the loop; `data` gives a pointer into the array that is the argument of this index."""
    _, image_at, plane, _, taps, channels, _, w_at, _, z_at, z_plane, add = arguments
    vector, index = ir.VectorType(real, lanes), plane.type
    image, w, z = data(0, image_at), data(6, w_at), data(8, z_at)
    offsets = data(3, index(0))
    cells = [(k, v) for k in range(OUTPUTS) for v in range(vectors)]

    def load(pointer: Any, v: int) -> Any:
        pointer = builder.gep(pointer, [index(v * lanes)])
        found = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        found.align = VECTOR // lanes  # that of a number: tiles begin anywhere
        return found

    def row(k: int) -> Any:
        return builder.gep(z, [builder.mul(z_plane, index(k))])

    def everywhere(x: Any) -> Any:
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, x, _INT32(0))
        return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))

    sums = {cell: code.alloca_once(builder, vector) for cell in cells}  # LLVM keeps them in registers
    with builder.if_else(builder.icmp_signed("!=", add, index(0))) as (onward, anew):
        with onward:
            for k, v in cells:
                builder.store(load(row(k), v), sums[k, v])
        with anew:
            for cell in cells:
                builder.store(ir.Constant(vector, [ir.Constant(real, 0.0)] * lanes), sums[cell])
    w_next = code.alloca_once_value(builder, w)
    with code.for_range(builder, taps, intp=index) as tap:
        offset = builder.load(builder.gep(offsets, [tap.index]))
        image_next = code.alloca_once_value(builder, builder.gep(image, [offset]))
        with code.for_range(builder, channels, intp=index):
            here, w_here = builder.load(image_next), builder.load(w_next)
            _prefetch(builder, builder.gep(w_here, [index(_AHEAD * OUTPUTS)]))
            pixels = [load(here, v) for v in range(vectors)]
            for k in range(OUTPUTS):
                weight = everywhere(builder.load(builder.gep(w_here, [index(k)])))
                for v in range(vectors):
                    product = builder.fmul(pixels[v], weight, flags=["contract"])
                    total = builder.fadd(builder.load(sums[k, v]), product, flags=["contract"])
                    builder.store(total, sums[k, v])
            builder.store(builder.gep(here, [plane]), image_next)
            builder.store(builder.gep(w_here, [index(OUTPUTS)]), w_next)
    for k, v in cells:
        pointer = builder.bitcast(builder.gep(row(k), [index(v * lanes)]), vector.as_pointer())
        builder.store(builder.load(sums[k, v]), pointer).align = VECTOR // lanes


tile1, tile2, tile3 = (_make_tile(vectors) for vectors in (1, 2, 3))
