"""zennit does not see a plain `+`: each branch receives all the relevance, and it doubles.

library: zennit
dimension: D17
expected: [-0.5, 1.5]
observed: [1.0, 1.0]
"""

import torch
from zennit.rules import Epsilon

# A sum is a linear layer with weights 1: R = (1, -3) / (1 - 3) = (-1/2, 3/2), in all 1.
a, b = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
for layer, weight in ((a, 1.0), (b, -3.0)):
    torch.nn.init.constant_(layer.weight, weight)
    Epsilon(epsilon=0.0).register(layer)
x = torch.tensor([[1.0], [1.0]], requires_grad=True)
z = a(x[:1]) + b(x[1:])
(R,) = torch.autograd.grad(z, x, torch.ones_like(z))
print([round(r, 4) for r in R.flatten().tolist()])
