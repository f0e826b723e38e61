"""The command ``mlservice``. Only this module reads argv and the environment."""

import os
import signal
import sys


def entry_point() -> None:
    """Run the command line.

    Nomad may send SIGHUP at any time, and the imports below take a while. So a server ignores the
    signal until it has its own handler.
    """
    if sys.argv[1:3] in (["serve", "gateway"], ["serve", "queue"], ["serve", "worker"]):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from mlservice.cli.main import main

    sys.exit(main(sys.argv[1:], os.environ))


if __name__ == "__main__":
    entry_point()
