"""`python -m stages.base`."""

import sys

from stages.base.stage import STAGE
from stages.common.stage import main

sys.exit(main(STAGE))
