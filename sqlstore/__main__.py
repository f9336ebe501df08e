"""Run the command line as ``python -m sqlstore``."""

import sys

from sqlstore.cli import main

if __name__ == "__main__":
    sys.exit(main())
