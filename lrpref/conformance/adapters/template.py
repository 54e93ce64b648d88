"""A library of your own on the vectors: copy this file, and put your library in.

    lrpref conformance run --library path/to/your_adapter.py

It runs in a process of its own and needs nothing of lrpref. As it stands it explains one dense layer by
LRP-0, in NumPy, and says of everything else that it lacks it.
"""

from typing import Any

import numpy as np

NAME = "template"  # the library's name
INSTALL = "pip install numpy"  # one line: how to install it


def version() -> dict[str, str]:
    """
    Say what runs here.

    Returns
    -------
    dict of str to str
        `version`, and the versions of what it builds on.
    """
    return {"version": "1.0", "numpy": np.__version__}


def explain(case: dict[str, Any]) -> Any:
    """
    Explain a vector.

    Parameters
    ----------
    case : dict
        A vector without its answers, its arrays as NumPy arrays.

    Returns
    -------
    ndarray, or dict
        Relevance of the input, of its shape. In a dict: `R`; `nodes`, relevance of other nodes by name;
        `settings`, a text that says what was not as the vector wants it.

    Raises
    ------
    NotImplementedError
        For what the library lacks; the message is shown.
    """
    node, *more = case["nodes"]
    rule = node["rule"]
    if more or node["kind"] != "dense" or rule["name"] != "zero" or rule["bias"] != "absorb":
        raise NotImplementedError("one dense layer by LRP-0 is all I can do")
    if rule["stabilizer"]["value"]:
        raise NotImplementedError("no eps here")
    # Here your library's own network is made, given its rules, and run.
    a, w, b = case["input"], node["weight"], node["bias"]
    z = a @ w.T + (0 if b is None else b)
    s = np.divide(case["relevance"], z, out=np.zeros_like(z), where=z != 0)
    return a * (s @ w)
