"""`python -m stages.tokens`."""

import sys

from stages.common.stage import main
from stages.tokens.stage import STAGE

sys.exit(main(STAGE))
