"""`python -m stages.gate`."""

from stages.common.stage import main
from stages.gate.stage import STAGE

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
