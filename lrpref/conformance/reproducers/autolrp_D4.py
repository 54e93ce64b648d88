"""autoLRP's gamma rule has no bias in its denominator, but scales R by |z0| / (|z0| + |b|).

library: autolrp
dimension: D4
expected: [0.75, -0.25]
observed: [0.5, -0.1667]
"""

import autolrp
import torch

# w + g w+ and b + g b+ with g = 1: (6, -2) and 4. R = (6, -2) / (6 - 2 + 4) = (3/4, -1/4).
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[3.0, -2.0]]), "bias": torch.tensor([2.0])})
x = autolrp.tensor(torch.tensor([[1.0, 1.0]]))
rules = {**autolrp.BASE, "AddmmBackward": ("gamma_montavon", {"gamma": 1.0})}
layer(x)[0, 0].lrp(rule=rules)
R = x.relevance
print([round(r, 4) for r in R.flatten().tolist()])
