"""autoLRP splits a sum by magnitude: the evidence against receives positive relevance.

library: autolrp
dimension: D17
expected: [-0.5, 1.5]
observed: [0.25, 0.75]
"""

import autolrp
import torch

# A sum is a linear layer with weights 1: R = (1, -3) / (1 - 3) = (-1/2, 3/2).
x = autolrp.tensor(torch.tensor([1.0, -3.0]))
(x[0] + x[1]).lrp()
R = x.relevance
print([round(r, 4) for r in R.flatten().tolist()])
