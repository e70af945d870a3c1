"""Places: a URL under which named objects are read, listed and written atomically. Knows nothing of what they mean.

Public names: `Place`, `LocalPlace`, `RemotePlace`, `open_place`, `Process`, `Retry`.
"""
