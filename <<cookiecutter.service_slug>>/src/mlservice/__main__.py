"""The command ``python -m mlservice``: the only place that reads argv and the environment."""

import os
import sys

from mlservice.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
