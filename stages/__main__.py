"""`python -m stillroom.stages`: the `stillroom` command, for whoever has only the interpreter at hand."""

from .cli import main

main()
