"""`python -m stages.corpus`."""

import sys

from stages.common.stage import main
from stages.corpus.stage import STAGE

sys.exit(main(STAGE))
