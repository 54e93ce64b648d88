"""zennit explains a module that is used twice by the input of its last use, silently.

library: zennit
dimension: D22
expected: [0.8]
observed: [0.81]
"""

import torch
from zennit.rules import Epsilon

# L(L(x)) with L(x) = x + 1 at x = 8: R = 9/10 at the first L's output, 8/9 of it at x: 0.8.
layer = torch.nn.Linear(1, 1)
layer.load_state_dict({"weight": torch.ones(1, 1), "bias": torch.ones(1)})
Epsilon(epsilon=0.0).register(layer)
x = torch.tensor([[8.0]], requires_grad=True)
z = layer(layer(x))
(R,) = torch.autograd.grad(z, x, torch.ones_like(z))
print([round(r, 4) for r in R.flatten().tolist()])
