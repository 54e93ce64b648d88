"""iNNvestigate's fused batch norm leaves gamma out of the shift.

library: innvestigate
dimension: D16
expected: [0.8571, 0.8571]
observed: [0.6667, 0.6667]
"""

import numpy as np
import tensorflow as tf
from innvestigate.analyzer import LRPZ

tf.compat.v1.disable_eager_execution()

# Folded, 3 (x1 + x2 + 1 - 1) - 5 has w = (3, 3), b = -5 and z = 7 at x = (2, 2): R = (6, 6) / 7.
inputs = tf.keras.Input((2,))
layer, norm = tf.keras.layers.Dense(1), tf.keras.layers.BatchNormalization(epsilon=0.0)
model = tf.keras.Model(inputs, norm(layer(inputs)))
layer.set_weights([np.ones((2, 1)), np.ones(1)])
norm.set_weights([np.array([3.0]), np.array([-5.0]), np.array([1.0]), np.array([1.0])])
x = np.array([[2.0, 2.0]])
R = LRPZ(model).analyze(x) / model.predict(x, verbose=0)  # it starts from f, we from 1
print([float(f"{r:.4g}") for r in R.ravel()])
