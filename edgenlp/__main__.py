"""`python -m edgenlp`, the same as the command `edgenlp`. Knows nothing else."""

import sys

from edgenlp.cli import main

if __name__ == "__main__":
    sys.exit(main())
