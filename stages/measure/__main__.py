"""`python -m stages.measure CELL`."""

import sys

from stages.common.stage import main
from stages.measure.stage import STAGE

sys.exit(main(STAGE))
