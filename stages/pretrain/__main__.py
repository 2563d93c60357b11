"""`python -m stages.pretrain`."""

import sys

from stages.common.stage import main
from stages.pretrain.stage import STAGE

sys.exit(main(STAGE))
