"""`python -m stages.judge CELL`."""

from stages.common.stage import main
from stages.judge.stage import STAGE

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
