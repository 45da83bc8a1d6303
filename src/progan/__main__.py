"""`python -m progan` is `progan`."""

import sys

from progan.cli import main

if __name__ == "__main__":
    sys.exit(main())
