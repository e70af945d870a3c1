"""A file of weights: where it is, what is read of it, which state dict it holds, and how its names fit a model.

From the bottom up: `digest` and `location` (a name to a file), `checkpoint` (a file to plain data, no code of it run),
`state_dict` (plain data to one state dict), `names` (a state dict to a model's own names), `conversions` (by the
libraries' own code), `load` (all of it). Public names: `Weights`, `read_weights`, `load_weights`, `start_from`,
`at_hand`, `fetch`, `weights_digest`.
"""
