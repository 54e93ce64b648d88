"""Reads the vectors with nothing but Python, and checks LRP-0 on its fully connected layers.

Run it beside the vector files: python reader.py
"""

import json
from operator import mul
from pathlib import Path


def numbers(array: dict) -> list[list[float]]:  # type: ignore[type-arg]
    flat, (rows, columns) = [float.fromhex(x) for x in array["hex"]], array["shape"]
    return [flat[i * columns : (i + 1) * columns] for i in range(rows)]


checked = 0
for vector in json.loads((Path(__file__).parent / "dense.json").read_text(encoding="utf-8"))["vectors"]:
    (node,) = vector["nodes"]
    rule = node["rule"]
    if (rule["name"], rule["stabilizer"]["value"], rule["bias"]) != ("zero", 0, "absorb"):
        continue
    w, expected = numbers(node["weight"]), vector["expected"]["R"]
    b = [float.fromhex(x) for x in node["bias"]["hex"]] if node["bias"] else [0.0] * len(w)
    for i, (a, R) in enumerate(zip(numbers(vector["input"]), numbers(vector["relevance"]), strict=True)):
        z = [sum(map(mul, a, w_k)) + b_k for w_k, b_k in zip(w, b, strict=True)]
        for j, a_j in enumerate(a):
            R_j = sum(a_j * w_k[j] * R_k / z_k for w_k, R_k, z_k in zip(w, R, z, strict=True))
            bound = expected["float64"][i * len(a) + j]
            assert abs(R_j - numbers(expected)[i][j]) <= bound, vector["id"]
    checked += 1
print(f"{checked} vectors of LRP-0 are met")
