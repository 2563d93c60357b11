"""Where the flows keep things, and the environment that they and their children run in."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from stages.common import environment
from stages.common.errors import UserError

STATE = Path(".gorn")
DECISION_FILE = Path("out/gate/decision.json")
LOCK_FILE = Path("dvc.lock")
PROFILES = Path("profiles")

# After `scheme://user:` up to the last @ of the word, for a password may hold one; or as an option.
PASSWORD = re.compile(r"(://[^\s/:@]*:)\S+(?=@)|([?&]password=)[^\s&]+")

# Prefect's own limit is 20 s; a cold start on a busy two-core machine was seen to need 24 s.
PREFECT_STARTUP_SECONDS = 180


def champion_folder(digest: str) -> Path:
    """Where the graph finds the champion: a dependency of dvc.yaml through champion.json."""
    return STATE / "champion" / digest


def model_store() -> Path:
    """Folder of promoted checkpoints by digest, which outlives `dvc gc`.

    `GORN_MODELS` may name a shared one.
    """
    return Path(os.environ.get("GORN_MODELS") or STATE / "models")


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file of this checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_store()


def own_store() -> str:
    """The tracking store of this checkout, used when nothing else is named."""
    return f"sqlite:///{(STATE / 'mlflow.db').resolve()}"


def shown(text: str) -> str:
    """`text` for people to read: passwords in addresses, such as the tracking store's, are masked."""
    return PASSWORD.sub(r"\1\2***", text)


def artifact_root() -> Path:
    """Where artifacts lie when the tracking store is the SQLite file of this checkout."""
    return (STATE / "mlartifacts").resolve()


def in_project() -> None:
    """Raise `UserError` unless the current folder is the project's: every path is relative to it."""
    missing = [name for name in ("dvc.yaml", "params.yaml") if not Path(name).is_file()]
    if missing:
        raise UserError(f"{Path.cwd()}: no {' and no '.join(missing)} here; run gorn in the project's folder")


def make_state() -> None:
    """Create `.gorn` and Prefect's home.

    Its server cannot start without. Raises `UserError` when that is impossible.
    """
    for folder in (STATE, Path(os.environ["PREFECT_HOME"])):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be created ({error.strerror}); check its permissions"
            ) from error


def prepare(verbose: bool = False) -> None:
    """Set what this process and its children need: quiet tools, allocator, PATH, Prefect's home and time
    limit.

    What the caller has set already stands. Call it before Prefect, MLflow or DVC are imported.
    """
    environment.quiet()
    defaults = {
        **environment.ALLOCATOR,
        "PREFECT_HOME": str((STATE / "prefect").resolve()),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(PREFECT_STARTUP_SECONDS),
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    own_tools_first()


def own_tools_first() -> None:
    """Put the folder of this interpreter first on PATH, so that children find its `python` and `dvc`."""
    tools = str(Path(sys.executable).parent)
    parts = os.environ.get("PATH", "").split(os.pathsep)
    if parts[0] != tools:
        os.environ["PATH"] = os.pathsep.join([tools, *[part for part in parts if part and part != tools]])


def tool(name: str) -> str:
    """Path of a console script of this environment. Raises `UserError` when it is not installed."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise UserError(f"{name}: not installed beside {sys.executable}; run `make install`")
    return str(path)
