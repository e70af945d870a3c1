"""How a view comes to be and is used. Knows samples, views, models and batches; nothing of commands.

From the bottom up; each room imports only from those above it in this list.

rng        Philox, seeds of samples, and arithmetic that every machine rounds alike
augment    operations and the recipe: parameters drawn from seeds, never a pixel
config     the configuration: sections, types, reading a file
device     the process's own device, streams, memory, ranks
images     which images can be used, and decoding them safely
pixels     what operations do to rendered views, in integers
render     from encoded images and drawn parameters to pixels, and to mixed floats
models     students and teachers by name, their weights, losses
teacher    what is asked of a teacher: blocks, plain views, evaluation, a pilot, the drift between backends
replay     a student's epoch: order, targets, batches, proof
train      optimisers and the training step
"""
