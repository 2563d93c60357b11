"""`python -m stages.judge_model`."""

from stages.common.stage import main
from stages.judge_model.stage import STAGE

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
