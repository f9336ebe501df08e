"""The process that traced ones are forked from: `python -m tests.tracing DESCRIPTOR MODULE...`."""

import sys
from multiprocessing.connection import Connection

from tests.tracing.template import serve

serve(Connection(int(sys.argv[1])), sys.argv[2:])
