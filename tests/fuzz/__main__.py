"""Run cases: `SQLSTORE_CASES=20000 SQLSTORE_SEED=1 python -m tests.fuzz`.

Or just those that are named: `python -m tests.fuzz index:flip:1000:3`.
"""

import sys

from tests.fuzz.run import main

if __name__ == "__main__":  # what is spawned imports this module again
    sys.exit(main(sys.argv[1:]))
