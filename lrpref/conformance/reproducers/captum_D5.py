"""Captum's gamma rule is made for inputs >= 0; on others its denominator may vanish.

library: captum
dimension: D5
expected: [-0.3333, 1.3333]
observed: ['-2e+09', '2e+09']
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import GammaRule

# The simple rule has (-2, 2) / 0. The generalized one favours contributions of z's sign (z = 1 > 0):
# -1 * 1 and -1 * (-2 - 2), so (-1, 4) / 3.
layer = torch.nn.Linear(2, 1, bias=False)
layer.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
layer.rule = GammaRule(gamma=1.0)
x = torch.tensor([[-1.0, -1.0]], requires_grad=True)
R = LRP(torch.nn.Sequential(layer)).attribute(x)
print([f"{r:.4g}" for r in R.flatten().tolist()])
