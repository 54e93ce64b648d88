"""zennit 0.5.1's canonizer leaves eps in the batch norm that it has folded: the output changes.

library: zennit-0.5.1
dimension: D16
expected: 5.0
observed: 3.5355
"""

import torch
from zennit.canonizers import SequentialMergeBatchNorm

# Variance 0 and eps 1 make a scale of 1 / sqrt(0 + 1) = 1: x + bias = 5 passes as it is.
layer, norm = torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1, eps=1.0)
layer.load_state_dict({"weight": torch.ones(1, 1), "bias": torch.ones(1)})
norm.running_var.zero_()
model = torch.nn.Sequential(layer, norm).eval()
SequentialMergeBatchNorm().apply(model)
print(round(model(torch.tensor([[4.0]])).item(), 4))
