"""zennit's only gamma rule is the generalized one.

library: zennit
dimension: D5
expected: [-1.0, 2.0]
observed: [-0.3333, 1.3333]
"""

import torch
from zennit.rules import Gamma

# The chapter's rule has w + g w+ = (2, 2) with g = 1: (-2, 4) / 2. The generalized one favours contributions
# of z's sign: (-1, 4) / 3.
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[1.0, 1.0]]), "bias": torch.tensor([0.0])})
Gamma(1.0, stabilizer=1e-9).register(layer)
x = torch.tensor([[-1.0, 2.0]], requires_grad=True)
z = layer(x)
(R,) = torch.autograd.grad(z, x, torch.ones_like(z))
print([round(r, 4) for r in R.flatten().tolist()])
