"""Captum's alpha1-beta0 finds no weights in an average pooling: R goes in proportion to the inputs.

library: captum
dimension: D15
expected: [0.0, 1.0]
observed: [-1.0, 2.0]
"""

import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule


# The average is a linear layer with weights 1/2. R_j = (a_j w_j)+ / sum (a w)+ R = (0, 1) / 1.
# In proportion it is (-1/2, 1) / (1/2).
class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = torch.nn.AvgPool2d((1, 2))
        self.pool.rule = Alpha1_Beta0_Rule()

    def forward(self, x):
        return self.pool(x).flatten(1)

x = torch.tensor([[[[-1.0, 2.0]]]], requires_grad=True)
R = LRP(Pooled()).attribute(x) / 0.5  # Captum starts from f = 1/2, this example from 1
print([round(r, 4) for r in R.flatten().tolist()])
