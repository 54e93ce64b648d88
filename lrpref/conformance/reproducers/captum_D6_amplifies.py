"""Captum's alpha1-beta0 amplifies relevance where a bias all but cancels the contributions.

library: captum
dimension: D6
expected: [0.75, 0.25]
observed: [30.0, 10.0]
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule

# R_j = (a_j w_j)+ / (sum (a w)+ + b+) R. With a w = (3, 1) and b = -3.9: (3, 1) / 4.
layer = torch.nn.Linear(2, 1).double()
layer.load_state_dict({"weight": torch.tensor([[3.0, 1.0]]), "bias": torch.tensor([-3.9])})
layer.rule = Alpha1_Beta0_Rule()
x = torch.tensor([[1.0, 1.0]], dtype=torch.float64, requires_grad=True)
model = torch.nn.Sequential(layer)
R = LRP(model).attribute(x)
R = R / model(x).detach()  # Captum starts from f = 0.1, this example from 1
print([round(r, 3) for r in R.flatten().tolist()])
