"""`python -m stages.adapt`."""

import sys

from stages.adapt.stage import STAGE
from stages.common.stage import main

sys.exit(main(STAGE))
