"""Captum's alpha1-beta0 leaves a negative bias in the denominator, and inputs unclamped.

library: captum
dimension: D6
expected: [1.0, 0.0]
observed: [6.0, -4.0]
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule

# R_j = (a_j w_j)+ / (sum (a w)+ + b+) R. With a w = (3, -2) and b = -1/2: (3, 0) / 3 = (1, 0).
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[3.0, 1.0]]), "bias": torch.tensor([-0.5])})
layer.rule = Alpha1_Beta0_Rule()
x = torch.tensor([[1.0, -2.0]], requires_grad=True)
R = LRP(torch.nn.Sequential(layer)).attribute(x) / 0.5  # Captum starts from f = 1/2, this example from 1
print([round(r, 4) for r in R.flatten().tolist()])
