"""Captum starts from the explained class's score, as the chapter does.

library: captum
dimension: D18
expected: 5.0
observed: 5.0
"""

import torch
from captum.attr import LRP

# The chapter starts from the score f = 5 of the explained class; without biases LRP-0 conserves it.
layer = torch.nn.Linear(2, 2, bias=False)
layer.load_state_dict({"weight": torch.tensor([[4.0, 1.0], [1.0, 2.0]])})
x = torch.tensor([[1.0, 1.0]], requires_grad=True)
R = LRP(torch.nn.Sequential(layer)).attribute(x, target=0)
print(round(R.sum().item(), 4))
