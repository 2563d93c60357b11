"""`python -m stages.quantize CANDIDATE`."""

from stages.common.stage import main
from stages.quantize.stage import STAGE

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
