"""`python -m deftx` is `deftx`."""

import sys

from deftx.cli import main

sys.exit(main())
