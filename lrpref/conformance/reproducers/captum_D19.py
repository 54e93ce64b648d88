"""Captum refuses modules through which relevance could simply pass.

library: captum
dimension: D19
expected: []
observed: ['Flatten', 'Identity', 'Sigmoid']
"""

import torch
from captum.attr import LRP

# A flattening, an identity or a sigmoid has nothing to redistribute: R passes as it is.
refused = []
for module in (torch.nn.Flatten(), torch.nn.Identity(), torch.nn.Sigmoid(), torch.nn.ReLU()):
    x = torch.ones(1, 2, requires_grad=True)
    try:
        LRP(torch.nn.Sequential(torch.nn.Linear(2, 2), module)).attribute(x, target=0)
    except TypeError:
        refused.append(type(module).__name__)
print(refused)
