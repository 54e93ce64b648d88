"""Captum explains a batch norm as a layer of its own; the gamma rule then differs from the folded one's.

library: captum
dimension: D16
expected: [0.5455, 0.5455]
observed: [0.6667, 0.6667]
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import GammaRule

# Folded, 3 (x1 + x2 + 1) - 5 has w = (3, 3), b = -2.
# With gamma = 1 at x = (2, 2): (12, 12) / (24 - 2) = 6/11.
layer, norm = torch.nn.Conv2d(2, 1, 1), torch.nn.BatchNorm2d(1, eps=0.0)
one, three, minus_five = torch.ones(1), torch.tensor([3.0]), torch.tensor([-5.0])
layer.load_state_dict({"weight": torch.ones_like(layer.weight), "bias": one})
norm.load_state_dict({"weight": three, "bias": minus_five}, strict=False)
model = torch.nn.Sequential(layer, norm).eval()
layer.rule = GammaRule(gamma=1.0)
x = torch.full((1, 2, 1, 1), 2.0, requires_grad=True)
R = LRP(model).attribute(x, target=(0, 0, 0)) / 10  # Captum starts from f = 10
print([round(r, 4) for r in R.flatten().tolist()])
