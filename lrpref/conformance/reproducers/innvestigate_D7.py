"""iNNvestigate's alpha-beta has the bias in both denominators: one of them may vanish (its issue 273).

library: innvestigate
dimension: D7
expected: [2.0, -0.5]
observed: [20000000.0, -0.5]
"""

import numpy as np
import tensorflow as tf
from innvestigate.analyzer import LRP

tf.compat.v1.disable_eager_execution()

# alpha 2, beta 1: 2 * (1, 0) / 1 - (0, -1) / (-1 - 1) = (2, -1/2); b = -1 is negative.
inputs = tf.keras.Input((2,))
layer = tf.keras.layers.Dense(1)
model = tf.keras.Model(inputs, layer(inputs))
layer.set_weights([np.array([[1.0], [-1.0]]), np.array([-1.0])])
x = np.array([[1.0, 1.0]])
R = LRP(model, rule="Alpha2Beta1").analyze(x) / model.predict(x, verbose=0)  # it starts from f, we from 1
print([float(f"{r:.4g}") for r in R.ravel()])
