"""File system calls of a process: seen, refused, cut short, or its last.

In Python alone, by way of Linux's `ptrace`, so that the suites need nothing that a fresh machine
lacks. `decide` is asked before each call::

    with Template(["tests.programs"]) as template:
        seen = template.trace(append, path, root=path.parent)
        killed = template.trace(append, path, root=path.parent, decide=at(7, Kill(after=True)))
"""

from tests.tracing.actions import Action, Decide, Fail, Kill, Shorten, at, since
from tests.tracing.calls import Call
from tests.tracing.ptrace import TracingError
from tests.tracing.template import Template, Trace, unavailable

__all__ = [
    "Action",
    "Call",
    "Decide",
    "Fail",
    "Kill",
    "Shorten",
    "Template",
    "Trace",
    "TracingError",
    "at",
    "since",
    "unavailable",
]
