"""A batch spread over several devices counts as one batch: sums and gatherings over the replicas.

Outside `tf.distribute` there is one replica and everything here returns what it is given.
"""

import keras
import tensorflow as tf


def count() -> int:
    """Return the number of replicas that take this step together."""
    return int(tf.distribute.get_replica_context().num_replicas_in_sync)


def total(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of a tensor over the replicas; its gradient is left to the caller."""
    if count() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def gathered(rows: tf.Tensor) -> tf.Tensor:
    """Return the rows (B_i, ...) of all replicas as (B, ...), in their order.

    Every replica then computes the same; a gradient through it is the sum over the replicas.
    """
    if count() == 1:
        return rows
    return tf.distribute.get_replica_context().all_gather(rows, axis=0)


def assign(variable: keras.Variable, value: tf.Tensor) -> None:
    """Set a Keras variable to a value that is the same on every replica."""
    target = variable.value
    value = tf.cast(value, target.dtype)
    if count() == 1:
        target.assign(value)
    else:  # each replica sets its own copy; `assign` would ask how to merge them
        tf.raw_ops.AssignVariableOp(resource=target.handle, value=value)


def own_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Return the next seed (2,) of a keras SeedGenerator, another one on each replica."""
    state = tf.convert_to_tensor(generator.state)
    assign(generator.state, state + tf.constant([0, 1], state.dtype))
    if count() == 1:
        return tf.cast(state, tf.int32)
    replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
    return tf.cast(state, tf.int32) + tf.stack([replica * 7919, 0])
