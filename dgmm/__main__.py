"""python -m dgmm is the command dgmm."""

import sys

from dgmm.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
