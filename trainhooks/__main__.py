"""`python -m trainhooks` is the command `trainhooks`."""

import sys

from trainhooks.cli import main

if __name__ == "__main__":
    sys.exit(main())
