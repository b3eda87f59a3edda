"""`python -m deftx` is `deftx`; the job runs in a fork of the workflow's server if there is one."""

import sys

from deftx.run.handover import handed_over

status = handed_over(sys.argv[1:])
if status is None:
    from deftx.cli.main import main

    status = main()
sys.exit(status)
