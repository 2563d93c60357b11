"""`python -m stages.validate`."""

import sys

from stages.common.stage import main
from stages.validate.stage import STAGE

sys.exit(main(STAGE))
