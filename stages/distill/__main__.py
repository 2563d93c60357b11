"""`python -m stages.distill`."""

import sys

from stages.common.stage import main
from stages.distill.stage import STAGE

sys.exit(main(STAGE))
