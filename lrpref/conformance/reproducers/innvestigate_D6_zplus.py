"""iNNvestigate's z-plus rule has no bias in its denominator, not a positive one either.

library: innvestigate
dimension: D6
expected: [0.8571, 0.0]
observed: [1.0, 0.0]
"""

import numpy as np
import tensorflow as tf
from innvestigate.analyzer import LRP

tf.compat.v1.disable_eager_execution()

# R_j = (a_j w_j)+ / (sum (a w)+ + b+) R. With a w = (3, -2) and b = 1/2: (3, 0) / 3.5 = (6/7, 0).
inputs = tf.keras.Input((2,))
layer = tf.keras.layers.Dense(1)
model = tf.keras.Model(inputs, layer(inputs))
layer.set_weights([np.array([[3.0], [1.0]]), np.array([0.5])])
x = np.array([[1.0, -2.0]])
R = LRP(model, rule="ZPlus").analyze(x) / model.predict(x, verbose=0)  # it starts from f, we from 1
print([abs(float(f"{r:.4g}")) for r in R.ravel()])
