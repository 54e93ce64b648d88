"""zennit's w-square rule has the bias's square in its denominator.

library: zennit
dimension: D11
expected: [0.2, 0.8]
observed: [0.0714, 0.2857]
"""

import torch
from zennit.rules import WSquare

# R_j = w_j^2 / sum w^2 R, whatever the bias: (1, 4) / 5.
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])})
WSquare(stabilizer=0.0).register(layer)
x = torch.tensor([[1.0, 1.0]], requires_grad=True)
z = layer(x)
(R,) = torch.autograd.grad(z, x, torch.ones_like(z))
print([round(r, 4) for r in R.flatten().tolist()])
