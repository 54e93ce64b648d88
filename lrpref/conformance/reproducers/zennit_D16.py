"""zennit passes relevance through a batch norm unchanged, unless a canonizer folds it.

library: zennit
dimension: D16
expected: [0.6, 0.6] [0.6, 0.6]
observed: [0.4, 0.4] [0.6, 0.6]
"""

import torch
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlus

# Folded, 3 (x1 + x2 + 1) - 5 has w = (3, 3), b = -2 and z = 10 at x = (2, 2): R = (6, 6) / 10.
layer, norm = torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1, eps=0.0)
one, three, minus_five = torch.ones(1), torch.tensor([3.0]), torch.tensor([-5.0])
layer.load_state_dict({"weight": torch.ones_like(layer.weight), "bias": one})
norm.load_state_dict({"weight": three, "bias": minus_five}, strict=False)
model = torch.nn.Sequential(layer, norm).eval()
x = torch.tensor([[2.0, 2.0]], requires_grad=True)
shown = []
for canonizers in ([], [SequentialMergeBatchNorm()]):
    with EpsilonPlus(canonizers=canonizers).context(model):
        z = model(x)
        (R,) = torch.autograd.grad(z, x, torch.ones_like(z))
    shown.append(str([round(r, 4) for r in R.flatten().tolist()]))
print(*shown)
