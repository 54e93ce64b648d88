"""zennit's gamma rule finds no weights in an average pooling: R goes in proportion to the inputs.

library: zennit
dimension: D15
expected: [-0.3333, 1.3333]
observed: [-1.0, 2.0]
"""

import torch
from zennit.rules import Gamma

# The average is a linear layer with weights 1/2. With gamma = 1 and z > 0 the generalized rule favours
# contributions > 0: (-1, 2 + 2) / 3. In proportion it is (-1, 2) / 1.
pool = torch.nn.AvgPool2d((1, 2))
Gamma(1.0, stabilizer=1e-9).register(pool)
x = torch.tensor([[[[-1.0, 2.0]]]], requires_grad=True)
z = pool(x)
(R,) = torch.autograd.grad(z, x, torch.ones_like(z))
print([round(r, 4) for r in R.flatten().tolist()])
