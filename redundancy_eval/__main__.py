"""`python -m redundancy_eval`, e.g. below torchrun."""

import sys

from redundancy_eval.cli import main

if __name__ == "__main__":
    sys.exit(main())
