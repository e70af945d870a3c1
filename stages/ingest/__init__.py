"""Ingest: sources of images, and data shards made of them. Knows nothing of seeds or views.

Public names: `STAGE`, `open_source`, `classes_of`.
"""
