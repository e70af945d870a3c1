"""From how a command ends to its exit status, and a line for people.

0 done, 1 failed, 2 wrong usage or config, 75 stopped by SIGTERM or SIGUSR1, 130 by Ctrl-C: run it again.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from cyclopts import CycloptsError

from stillroom.stages.run.shutdown import EXIT_STATUS, Stopped
from stillroom.storage.errors import StillroomError

_INTERRUPTED = 128 + signal.SIGINT


def status_of_call(call: Callable[[], Any]) -> int:
    """Call, and say on stderr, without a traceback, what went wrong."""
    try:
        return int(call() or 0)
    except CycloptsError as error:
        print(f"stillroom: {error}", file=sys.stderr)
        return 2
    except StillroomError as error:
        for line in str(error).splitlines():
            print(f"stillroom: {line}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # `stillroom … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"stillroom: {error.strerror or error}{where}; what was finished is kept, run again", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"stillroom: stopped by {stopped}; what was finished is kept, run again to go on", file=sys.stderr)
        return _INTERRUPTED if str(stopped) == signal.SIGINT.name else EXIT_STATUS
    except KeyboardInterrupt:
        print("stillroom: interrupted; what was finished is kept, run again to go on", file=sys.stderr)
        return _INTERRUPTED
