"""Run cases: `SQLSTORE_CASES=1000 SQLSTORE_SEED=1 python -m tests.faults`.

Or just those that are named: `python -m tests.faults append:EIO:17`.
"""

import sys

from tests.faults.run import main

sys.exit(main(sys.argv[1:]))
