"""Captum refuses a module that is used twice.

library: captum
dimension: D22
expected: [0.8]
observed: being used only once
"""

import torch
from captum.attr import LRP

# L(L(x)) with L(x) = x + 1 at x = 8: R = 9/10 at the first L's output, 8/9 of it at x: 0.8.
layer = torch.nn.Linear(1, 1)
layer.load_state_dict({"weight": torch.ones(1, 1), "bias": torch.ones(1)})
x = torch.tensor([[8.0]], requires_grad=True)
try:
    print(LRP(torch.nn.Sequential(layer, torch.nn.ReLU(), layer)).attribute(x) / 10)
except RuntimeError as error:
    print(str(error).split(" is ")[-1].split(" in ")[0])
