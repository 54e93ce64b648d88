"""Captum's gamma rule favours the positive weights, but leaves a positive bias as it is.

library: captum
dimension: D4
expected: [0.75, -0.25]
observed: [1.0, -0.3333]
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import GammaRule

# w + g w+ and b + g b+ with g = 1: (6, -2) and 4. R = (6, -2) / (6 - 2 + 4) = (3/4, -1/4).
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[3.0, -2.0]]), "bias": torch.tensor([2.0])})
layer.rule = GammaRule(gamma=1.0)
x = torch.tensor([[1.0, 1.0]], requires_grad=True)
R = LRP(torch.nn.Sequential(layer)).attribute(x) / 3  # Captum starts from f = 3, this example from 1
print([round(r, 4) for r in R.flatten().tolist()])
