"""autoLRP's alpha-beta loses all relevance where z without the bias is 0.

library: autolrp
dimension: D7
expected: [2.0, -0.5]
observed: [0.0, 0.0]
"""

import autolrp
import torch

# alpha 2, beta 1: 2 * (1, 0) / 1 - (0, -1) / (-1 - 1) = (2, -1/2); b = -1 is negative.
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[1.0, -1.0]]), "bias": torch.tensor([-1.0])})
x = autolrp.tensor(torch.tensor([[1.0, 1.0]]))
rules = {**autolrp.BASE, "AddmmBackward": ("alpha_beta", {"alpha": 2.0, "beta": 1.0})}
layer(x)[0, 0].lrp(rule=rules)
R = x.relevance
print([round(r, 4) for r in R.flatten().tolist()])
