"""`python -m mlxgen` is the `mlxgen` command."""

from mlxgen.cli import main

main()
