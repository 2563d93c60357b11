"""`python -m tests.proof [CLAIM ...]`: measure the named claims, or all, and write docs/results/."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys

from stages.common import environment
from tests.proof import summary
from tests.proof.common import SCRATCH

CLAIMS = tuple(summary.SENTENCES)


def main() -> int:
    """Run the named claims in order. A claim that ran before continues where it stopped."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__)
    parser.add_argument(
        "claims", nargs="*", metavar="CLAIM", help=f"one of {', '.join(CLAIMS)}; all when none is named"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="forget what an earlier run of these claims left"
    )
    arguments = parser.parse_args()
    environment.use_allocator()
    environment.quiet()
    for claim in arguments.claims or CLAIMS:
        if claim not in CLAIMS:
            parser.error(f"unknown claim `{claim}`; there are {', '.join(CLAIMS)}")
        if arguments.fresh:
            shutil.rmtree(SCRATCH / claim, ignore_errors=True)
        importlib.import_module(f"tests.proof.{claim}").measure()
        summary.write()
        sys.stderr.write(f"{claim}: docs/results/{claim}.json\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
