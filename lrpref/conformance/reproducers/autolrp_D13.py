"""autoLRP's z-box scales R by |z0| / (|z0| + |b|) = 5/9; in the rule the bias cancels.

library: autolrp
dimension: D13
expected: [0.7059, 0.2941]
observed: [0.3922, 0.1634]
"""

import autolrp
import torch

# R_j = (x_j w_j - l w_j+ - h w_j-) / sum R, with l = -1 and h = 1:
# (1 + 2, 1/4 + 1) = (3, 5/4), over 17/4: (12/17, 5/17).
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[2.0, -1.0]]), "bias": torch.tensor([1.0])})
x = autolrp.tensor(torch.tensor([[0.5, -0.25]]))
rules = {**autolrp.BASE, "AddmmBackward": ("zbox", {"low": -1.0, "high": 1.0})}
layer(x)[0, 0].lrp(rule=rules)
R = x.relevance
print([round(r, 4) for r in R.flatten().tolist()])
