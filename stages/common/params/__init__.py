"""params.yaml as checked, frozen values: one module per block, `schema.Params` over all of them."""

from stages.common.params.load import PARAMS_FILE, Reads, load, parse, resolved, select
from stages.common.params.schema import Params

__all__ = ["PARAMS_FILE", "Params", "Reads", "load", "parse", "resolved", "select"]
