"""zennit passes relevance through a list of activations; on others it runs their gradient.

library: zennit
dimension: D19
expected: ReLU 1.0, Mish 1.0
observed: ReLU 1.0, Mish 1.0693
"""

import torch
from zennit.composites import EpsilonPlus

# An elementwise activation has one input for each output, which receives all of its R = 1.
shown = []
for activation in (torch.nn.ReLU(), torch.nn.Mish()):
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), activation)
    torch.nn.init.ones_(model[0].weight)
    x = torch.tensor([[2.0]], requires_grad=True)
    with EpsilonPlus().context(model):
        z = model(x)
        (R,) = torch.autograd.grad(z, x, torch.ones_like(z))
    shown.append(f"{type(activation).__name__} {round(R.item(), 4)}")
print(*shown, sep=", ")
