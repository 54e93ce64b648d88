"""LXT adds eps to a negative denominator too, which brings it nearer to zero.

library: lxt
dimension: D1
expected: [0.6667]
observed: [2.0]
"""

import torch
from lxt.explicit.functional import linear_epsilon

# R_j = a_j w_j / (z + eps sign(z)) R. With z = -2 and eps = 1: -2 / (-2 - 1) = 2/3.
x = torch.tensor([[1.0]], requires_grad=True)
z = linear_epsilon(x, torch.tensor([[-2.0]]), None, 1.0)
(R,) = torch.autograd.grad(z, x, torch.ones_like(z))
print([round(r, 4) for r in R.flatten().tolist()])
