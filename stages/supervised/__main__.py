"""`python -m stages.supervised`."""

import sys

from stages.common.stage import main
from stages.supervised.stage import STAGE

sys.exit(main(STAGE))
