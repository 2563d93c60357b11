"""`python -m stages.evaluate CELL`."""

from stages.common.stage import main
from stages.evaluate.stage import STAGE

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
