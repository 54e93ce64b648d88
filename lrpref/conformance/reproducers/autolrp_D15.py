"""autoLRP hands equal parts to the pixels of an average pooling; to those of `mean` by |x|.

library: autolrp
dimension: D15
expected: [-0.5, 1.5] [-0.5, 1.5]
observed: [0.5, 0.5] [0.25, 0.75]
"""

import autolrp
import torch

# The average is a linear layer with weights 1/2: R_j = x_j / sum x R = (-1, 3) / 2 = (-1/2, 3/2).
average = torch.nn.AvgPool2d((1, 2))
shown = []
for pool in (average, torch.mean):
    x = autolrp.tensor(torch.tensor([[[[-1.0, 3.0]]]]))
    pool(x).sum().lrp()
    shown.append(str([round(r, 4) for r in x.relevance.flatten().tolist()]))
print(*shown)
