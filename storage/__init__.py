"""What is on disk. Knows bytes, arrays, shards, views and slots; nothing of images, models or commands.

From the bottom up; each room imports only from those above it in this list.

objects    places (URLs) whose objects are written atomically: local, S3, anything fsspec knows
ledger     which tasks are complete and what bytes they wrote; fingerprints, claims, sealing
spill      what is too large for memory, in files without a name
dataset    data shards in WebDataset's form, their index, and encoded images
codecs     how logits become bytes: rows of floats to the chunks of a Zarr array
cache      the cache: a Zarr group that is read through a store that checks every object
writers    what tasks write into a cache, and what their encoding lost

`errors` has every error of ours, `jit` compiles loops, `xxh3` takes many digests in one call.
"""
