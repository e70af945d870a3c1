"""Report (placeholder while the rest comes up)."""

from .stage import Stage

STAGE = Stage("report", "pages", lambda c: [], lambda c: lambda t: True, lambda c, t, a: {})
