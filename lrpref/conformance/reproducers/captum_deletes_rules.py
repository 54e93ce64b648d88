"""Captum deletes the rules after each call: a second one runs the epsilon rule (its issue 1059).

library: captum
dimension: none
expected: [1.0, 0.0] [1.0, 0.0]
observed: [1.0, 0.0] [2.0, -1.0]
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule

# alpha1-beta0 with a w = (2, -1): (1, 0), in every call. LRP-0 gives (2, -1).
layer = torch.nn.Linear(2, 1, bias=False)
layer.load_state_dict({"weight": torch.tensor([[2.0, -1.0]])})
layer.rule = Alpha1_Beta0_Rule()
explainer = LRP(torch.nn.Sequential(layer))
x = torch.ones(1, 2, requires_grad=True)
print(*([round(r, 4) for r in explainer.attribute(x).flatten().tolist()] for _ in range(2)))
