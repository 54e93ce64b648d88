"""Captum has no rule for a plain `+`: the skip connection of x = 100 counts 100 times.

library: captum
dimension: D17
expected: 1.0
observed: 101.0
"""

import torch
from captum.attr import LRP


# f = x + 1 x: both summands have x/2 of f's relevance, and R = f in all.
class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.branch.weight)

    def forward(self, x):
        return x + self.branch(x)

x = torch.tensor([[100.0]], requires_grad=True)
R = LRP(Residual()).attribute(x)
print(round((R / 200).item(), 4))
