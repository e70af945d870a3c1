"""`python -m stillroom.stages`: the `stillroom` command, for whoever has only the interpreter at hand."""

from stillroom.stages.cli.main import main

main()
