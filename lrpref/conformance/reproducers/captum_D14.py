"""Captum's max pooling loses the relevance of a window of zeros.

library: captum
dimension: D14
expected: [1.0, 0.0]
observed: [0.0, 0.0]
"""

import torch
from captum.attr import LRP


# The first of equal maxima takes all of R. The + 1 makes 1 of the score, from which Captum starts.
class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = torch.nn.MaxPool2d((1, 2))

    def forward(self, x):
        return self.pool(x).flatten(1) + 1

x = torch.zeros(1, 1, 1, 2, requires_grad=True)
R = LRP(Pooled()).attribute(x)
print([round(r, 4) for r in R.flatten().tolist()])
