"""The optimizer of every network: Adam with the published, decoupled weight decay."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


class AdamW:
    """Adam whose decay is `weight_decay * w`, not multiplied by the learning rate (SPEC section 2); 0 is plain Adam.

    With `scheduled` the learning rate may be changed between steps (`scale_rate`). Constraints of variables
    (`keras.constraints`) are met after every step.

    The original used TensorFlow Addons' AdamW, which decays like this. `keras.optimizers.AdamW` with ``weight_decay /
    learning_rate`` takes the same step to rounding, but as a dozen operations a variable where this one is two
    (`benchmarks/speed/optimizers.py` measures both).
    """

    BETAS = 0.9, 0.999

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        learning_rate: float,
        weight_decay: float = 0.0,
        epsilon: float = 1e-7,
        scheduled: bool = False,
    ) -> None:
        self.targets = [v.value for v in variables]
        self.constraints = [getattr(v, "constraint", None) for v in variables]
        self.dtype = self.targets[0].dtype
        with np.errstate(over="ignore"):  # one that float32 cannot hold breaks the weights, which is noticed
            self.learning_rate = np.asarray(learning_rate, self.dtype.as_numpy_dtype)
        self.rate = tf.Variable(self.learning_rate, trainable=False) if scheduled else None
        self.weight_decay, self.epsilon = weight_decay, epsilon
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False, name="iterations")
        self.moments = [
            [tf.Variable(tf.zeros_like(target), trainable=False) for target in self.targets] for _ in range(2)
        ]

    def scale_rate(self, factor: float) -> None:
        """Go on with this share of the learning rate (an optimizer made with `scheduled`)."""
        if self.rate is not None:
            self.rate.assign(self.learning_rate * self.dtype.as_numpy_dtype(factor))

    @property
    def variables(self) -> list[tf.Variable]:
        """All values that the next step depends on, besides the weights."""
        return [self.iterations, *self.moments[0], *self.moments[1]]

    def reset(self) -> None:
        """Forget every step."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Take one step with a gradient for each variable.

        Handles are used instead of variables: with several devices each changes its own copy, all alike.
        """
        set_value = tf.raw_ops.AssignVariableOp
        iterations = tf.convert_to_tensor(self.iterations) + 1
        set_value(resource=self.iterations.handle, value=iterations)
        steps = tf.cast(iterations, self.dtype)
        beta1, beta2 = self.BETAS
        powers = tf.pow(beta1, steps), tf.pow(beta2, steps)
        rate = self.learning_rate if self.rate is None else tf.convert_to_tensor(self.rate)
        for target, constraint, mean, square, gradient in zip(
            self.targets, self.constraints, *self.moments, gradients, strict=True
        ):
            if self.weight_decay:
                decayed = tf.convert_to_tensor(target) * (1 - self.weight_decay)
                set_value(resource=target.handle, value=decayed)
            tf.raw_ops.ResourceApplyAdam(
                var=target.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate,
                beta1=beta1,
                beta2=beta2,
                epsilon=self.epsilon,
                grad=gradient,
            )
            if constraint is not None:
                set_value(resource=target.handle, value=constraint(tf.convert_to_tensor(target)))
