"""The command line `gorn`.

Nothing heavy is imported before a command needs it: `gorn --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from flows import settings
from stages.common.errors import EXIT_OURS, EXIT_USER, UserError, one_line

EXAMPLES = """examples:
  gorn run                          the whole way: corpus to promoted model
  gorn use qwen2.5-0.5b             put another profile in place
  gorn pull champion model/         the champion as a plain Hugging Face folder
  gorn serve --cron "0 3 * * *"     retrain every night at three
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line; a test freezes it."""
    main_parser = argparse.ArgumentParser(
        prog="gorn",
        description="Small Russian language models, from raw text to a promoted model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="store_true", help="show tracebacks and every line of every stage"
    )
    commands = main_parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common])

    run = add("run", "run what changed, record it in MLflow, promote by the gate, show the table")
    run.add_argument("--commit", action="store_true", help="commit dvc.lock and champion.json afterwards")
    run.add_argument(
        "--dry-run", action="store_true", help="show what would run, and its memory and time plan"
    )
    run.add_argument("--force", action="store_true", help="run every stage, changed or not")
    run.add_argument(
        "-j",
        "--jobs",
        type=_positive,
        metavar="N",
        help="light stages at a time (default: 2 for a bootstrapped base, else 1); trainings and "
        "measurements run alone",
    )
    add("publish", "record the finished graph in MLflow, from files; twice does no harm")
    promote = add("promote", "make the gate's winner the champion, if its decision is still valid")
    promote.add_argument(
        "--version", type=_positive, metavar="N", help="another version that passed, instead of the winner"
    )
    add("rollback", "make the previous champion the champion again")
    champion = add("champion", "the champion's file and bytes")
    champion.add_argument(
        "action", choices=("fetch", "show"), help="fetch: follow the registry; show: who it is"
    )
    pull = add("pull", "copy a model out of the registry as a plain Hugging Face folder")
    pull.add_argument(
        "version", metavar="ALIAS_OR_VERSION", help="champion, previous, challenger or a number"
    )
    pull.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    ask = add("ask", "let a model continue a prompt")
    ask.add_argument("prompt")
    ask.add_argument(
        "--model",
        help="champion, a candidate's name or a folder (default: champion, or what the adapter belongs to)",
    )
    ask.add_argument(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="an adapter to switch on, such as out/adapt/adapter; refused on other weights than its own",
    )
    ask.add_argument(
        "--max-tokens", type=_positive, default=48, metavar="N", help="tokens to write (default: 48)"
    )
    raters = add("raters", "answers for people to compare, and their labels back for the judge's passport")
    raters.add_argument("action", choices=("export", "import"), help="export CELL DIR; import FILE...")
    raters.add_argument("names", nargs="+", metavar="NAME", help="a candidate and a new folder, or files")
    raters.add_argument(
        "--key",
        type=Path,
        help="of import: the key of the export, for files that lie outside its folder",
    )
    submission = add("submission", "the zip for MERA's server: write it, or check one")
    actions = submission.add_subparsers(dest="action", metavar="ACTION", required=True)
    write = actions.add_parser("write", help="take it from a cell that was evaluated on MERA's tasks")
    write.add_argument("cell", metavar="CELL", help="a candidate's name, or champion")
    write.add_argument(
        "zip", type=Path, metavar="ZIP", help="a file; what was generated goes to ZIP-logs.zip"
    )
    check = actions.add_parser("check", help="name everything that the server could not score")
    check.add_argument("zip", type=Path, metavar="ZIP")
    check.add_argument(
        "--items", action="store_true", help="compare the ids with the items of evaluate.suites too"
    )
    serve = add("serve", "retrain on a schedule; one run at a time")
    serve.add_argument("--cron", required=True, help='five fields, for example "0 3 * * *"')
    serve.add_argument(
        "--port", type=_port, default=4200, help="of the Prefect server, unless PREFECT_API_URL is set"
    )
    ui = add("ui", "start the MLflow and Prefect web pages until Ctrl-C")
    ui.add_argument("--mlflow-port", type=_port, default=5000)
    ui.add_argument("--prefect-port", type=_port, default=4200)
    add("doctor", "check this machine and say what to do")
    use = add("use", "put a profile in place of params.yaml")
    use.add_argument("profile", nargs="?", metavar="PROFILE")
    use.add_argument("--list", action="store_true", help="show the profiles")
    use.add_argument(
        "--force", action="store_true", help="overwrite edits of params.yaml that are not committed"
    )
    return main_parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (1 to 65535)")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 1 for the user's to mend, 70 for ours, 128 + n when stopped by signal n."""
    main_parser = parser()
    arguments = main_parser.parse_args(argv)
    if arguments.command == "use" and bool(arguments.profile) == arguments.list:
        main_parser.error("use: name a PROFILE, or --list")
    if arguments.command == "raters" and arguments.action == "export" and len(arguments.names) != 2:
        main_parser.error("raters export: name a candidate and a new folder")
    settings.prepare(arguments.verbose)
    from flows.processes import TerminatedError

    try:
        settings.in_project()
        settings.make_state()
        return run_command(arguments)
    except TerminatedError as stop:
        sys.stderr.write(f"gorn {arguments.command}: {stop}; the next run goes on where this one stopped\n")
        sys.stderr.flush()
        # Everything below this process has ended; Prefect's exit handlers would wait for its server.
        os._exit(stop.exit_status)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return fail(arguments.command, error, arguments.verbose)


def fail(command: str, error: Exception, verbose: bool) -> int:
    """Say `error` in one line, with its traceback when `verbose`; the exit status."""
    status = int(getattr(error, "exit_status", EXIT_OURS))
    if verbose:
        sys.stderr.write(settings.shown("".join(traceback.format_exception(error))))
    # What a stage says of a mistake of ours says so already.
    told = status == EXIT_USER or isinstance(error, UserError)
    kind = "" if told else f"internal error, {type(error).__name__}: "
    hint = "" if told or verbose else " (-v shows the traceback)"
    sys.stderr.write(f"gorn {command}: {kind}{settings.shown(one_line(error))}{hint}\n")
    return status


def run_command(arguments: argparse.Namespace) -> int:
    """Import what the command needs and do it."""
    from flows import commands

    action = getattr(commands, arguments.command)
    status = action(arguments)
    return int(status or 0)


if __name__ == "__main__":
    sys.exit(main())
