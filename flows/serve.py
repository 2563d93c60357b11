"""`gorn serve`: one long-lived process that retrains on a schedule, one run at a time."""

from __future__ import annotations

import os
import warnings

from flows import ports
from flows.processes import ending_children
from flows.ui import start_prefect
from stages.common.errors import UserError


def check_cron(cron: str) -> None:
    """Raise `UserError` unless `cron` is a schedule that Prefect understands."""
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron)
    except (ValidationError, ValueError) as error:
        raise UserError(
            f'--cron "{cron}": not a cron schedule; five fields, for example "0 3 * * *"'
        ) from error


def serve(cron: str, port: int, verbose: bool = False) -> None:
    """Serve the flow `retrain` until a signal. A run that is due while another one works is cancelled, not
    queued.

    Uses the Prefect server of `PREFECT_API_URL`, else one that answers on `port` (`gorn ui`), else starts one
    there. Raises `UserError` when the schedule is no cron expression or the port belongs to somebody else.
    """
    check_cron(cron)
    with ending_children():
        url = os.environ.get("PREFECT_API_URL") or _local_server(port)
        from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
        from prefect.settings import PREFECT_API_URL, temporary_settings

        from flows.retrain import retrain

        one_at_a_time = ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        )
        print(f"retraining at `{cron}`, one run at a time; Ctrl-C stops", flush=True)
        # Prefect read its environment when the schedule was checked; runs are processes and read their own.
        os.environ["PREFECT_API_URL"] = url
        # Its runner forgets to await its own stop when a signal ends it.
        warnings.filterwarnings("ignore", message="coroutine 'Runner.astop' was never awaited")
        with temporary_settings({PREFECT_API_URL: url}):
            retrain.serve(
                name="scheduled",
                cron=cron,
                parameters={"verbose": verbose},
                limit=1,
                global_limit=one_at_a_time,
                print_starting_message=False,
            )


def _local_server(port: int) -> str:
    """Address of the API of the server on `port`, started unless it runs already. Raises `UserError`."""
    url = f"http://{ports.HOST}:{port}"
    if ports.answers(f"{url}/api/health"):
        print(f"Prefect  {url} (running already)", flush=True)
    else:
        ports.require_free(port, "Prefect", "--port")
        start_prefect(port).wait()
        print(f"Prefect  {url}", flush=True)
    return f"{url}/api"
