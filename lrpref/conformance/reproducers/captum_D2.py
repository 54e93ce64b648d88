"""Captum's gamma rule has an eps of its own, 1e-9, which cannot be chosen: where z is that small, it counts.

library: captum
dimension: D2
expected: 1.0
observed: 0.6667
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import GammaRule

# Without an eps the one input has all of R, however small z is. With gamma = 1 it is 2e-9: 2 / (2 + 1).
layer = torch.nn.Linear(1, 1, bias=False).double()
torch.nn.init.constant_(layer.weight, 1e-9)
layer.rule = GammaRule(gamma=1.0)
x = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
R = LRP(torch.nn.Sequential(layer)).attribute(x) / 1e-9  # Captum starts from f = 1e-9, this example from 1
print(round(R.item(), 4))
