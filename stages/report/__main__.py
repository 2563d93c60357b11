"""`python -m stages.report`."""

import sys

from stages.common.stage import main
from stages.report.stage import STAGE

sys.exit(main(STAGE))
