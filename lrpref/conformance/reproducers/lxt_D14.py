"""LXT's epsilon rule multiplies the gradient of a max pooling with its input: the maximum receives all.

library: lxt
dimension: D14
expected: [0.25, 0.75]
observed: [0.0, 1.0]
"""

import torch
from lxt.explicit.rules import EpsilonRule

# Asked for LRP-0, the chapter treats a max pooling as the sum of its window: R = (1, 3) / (1 + 3).
pool = EpsilonRule(torch.nn.MaxPool2d((1, 2)), epsilon=0.0)
x = torch.tensor([[[[1.0, 3.0]]]], requires_grad=True)
z = pool(x)
(R,) = torch.autograd.grad(z, x, torch.ones_like(z))
print([round(r, 4) for r in R.flatten().tolist()])
