"""autoLRP's z-plus has no positive bias in its denominator, but any bias scales R.

library: autolrp
dimension: D6
expected: [0.8571, 0.0]
observed: [0.6667, 0.0]
"""

import autolrp
import torch

# R_j = (a_j w_j)+ / (sum (a w)+ + b+) R. With a w = (3, -2) and b = 1/2: (3 / 3.5, 0) = (6/7, 0).
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[3.0, 1.0]]), "bias": torch.tensor([0.5])})
x = autolrp.tensor(torch.tensor([[1.0, -2.0]]))
rules = {**autolrp.BASE, "AddmmBackward": "zplus"}
layer(x)[0, 0].lrp(rule=rules)
R = x.relevance
print([round(r, 4) for r in R.flatten().tolist()])
