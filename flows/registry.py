"""The MLflow registry as promotion sees it.

Versions with digests, three aliases, a log of who became champion.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from flows import settings
from stages.common.errors import UserError, one_line
from stages.common.params.shipping import PromotionBlock

ALIASES = ("champion", "previous", "challenger")
# A promoter that died leaves its claim behind; after this long nobody believes in it any more.
CLAIM_SECONDS = 900


@dataclass(frozen=True)
class Version:
    """One registered version and its tags; `digest` is that of the checkpoint's bytes."""

    number: int
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the checkpoint, written by `gorn publish`."""
        return self.tags.get("digest", "")

    @property
    def approved(self) -> bool:
        """Whether a person set the tag `approved` to `true` in the MLflow UI."""
        return self.tags.get("approved", "").strip().lower() == "true"


class Registry:
    """Versions and aliases of one registered model, and the experiments that runs and promotions go to."""

    def __init__(self, client: Any, promotion: PromotionBlock) -> None:
        self.client = client
        self.model = promotion.model_name
        self.experiment_name = promotion.experiment

    def alias(self, name: str) -> Version | None:
        """The version that `name` points to."""
        number = self._aliases().get(name)
        return self.version(number) if number is not None else None

    def aliases(self) -> dict[str, int | None]:
        """Where each of our aliases points; None where it is not set."""
        found = self._aliases()
        return {name: found.get(name) for name in ALIASES}

    def _aliases(self) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            model = self.client.get_registered_model(self.model)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {name: int(number) for name, number in model.aliases.items()}

    def version(self, number: int) -> Version:
        """Version `number`. Raises `UserError` when the registry has none."""
        found = self.find(number)
        if found is None:
            raise UserError(f"version {number}: `{self.model}` has none in the registry; see `gorn ui`")
        return found

    def find(self, number: int) -> Version | None:
        """Version `number`, or None when the registry has none."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version(self.model, str(number))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return Version(int(found.version), dict(found.tags))

    def by_digest(self, digest: str) -> Version | None:
        """The newest version of the checkpoint with this digest."""
        found = self.client.search_model_versions(f"name='{self.model}' and tags.digest='{digest}'")
        numbers = [int(version.version) for version in found]
        return self.version(max(numbers)) if numbers else None

    def point(self, alias: str, number: int | None) -> None:
        """Let `alias` point to version `number`, or to nothing."""
        if number is not None:
            self.client.set_registered_model_alias(self.model, alias, str(number))
        elif alias in self._aliases():
            self.client.delete_registered_model_alias(self.model, alias)

    def tag(self, number: int, tags: dict[str, str]) -> None:
        """Set `tags` on version `number`."""
        for key, value in tags.items():
            self.client.set_model_version_tag(self.model, str(number), key, value)

    def untag(self, number: int, key: str) -> None:
        """Remove tag `key` from version `number`, if it is there."""
        if key in self.version(number).tags:
            self.client.delete_model_version_tag(self.model, str(number), key)

    def ensure_model(self) -> None:
        """Create the registered model when this is the first version."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(
                self.model,
                description="Candidates that passed the gate. `champion` serves; see docs/operations.md.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def experiment(self, suffix: str = "") -> str:
        """Id of the experiment of pipeline runs, or of its sibling with `suffix`; created when missing."""
        name = self.experiment_name + suffix
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        own = settings.tracking_uri() == settings.own_store()
        location = settings.artifact_root().joinpath(name).as_uri() if own else None
        return str(self.client.create_experiment(name, artifact_location=location))

    @contextmanager
    def claim(self, action: str, source: int | None, target: int) -> Iterator[str]:
        """A run in the promotion log that says who is moving the champion; its id. Ends FINISHED, or FAILED
        on error.

        MLflow has no compare-and-swap. The file lock settles it between processes of one machine; between
        machines that share a server, everyone writes a claim first and looks second, so that of two at least
        one sees the other. Raises `UserError` when another claim is open.
        """
        experiment = self.experiment("-promotions")
        tags = {
            "action": action,
            "model": self.model,
            "promoted_from": str(source),
            "promoted_to": str(target),
        }
        run = self.client.create_run(
            experiment, tags=tags, run_name=f"{action} {source or 'base'} to {target}"
        ).info.run_id
        try:
            self._alone(experiment, run)
            yield run
        except BaseException:
            self.client.set_terminated(run, "FAILED")
            raise
        self.client.set_terminated(run, "FINISHED")

    def _alone(self, experiment: str, own: str) -> None:
        newest_dead = (time.time() - CLAIM_SECONDS) * 1000
        open_claims = self.client.search_runs(
            [experiment], f"attributes.status = 'RUNNING' and tags.model = '{self.model}'", max_results=50
        )
        for run in open_claims:
            if run.info.run_id == own:
                continue
            if run.info.start_time < newest_dead:
                self.client.set_terminated(run.info.run_id, "KILLED")
                continue
            raise UserError(
                f"another promotion is under way (run {run.info.run_id}); try again when it has ended"
            )


def connect(promotion: PromotionBlock) -> Registry:
    """Open the tracking store and registry, creating the SQLite file of this checkout when there is none.

    Raises `UserError`, one line, when it cannot be opened.
    """
    uri = settings.tracking_uri()
    for name, value in {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}.items():
        os.environ.setdefault(name, value)
    try:
        uri = _without_login(uri)
        with file_lock(_store_lock(uri, "open")):
            import mlflow
            from mlflow import MlflowClient

            # Registering a LoggedModel looks it up through the process-wide address, whatever the client was
            # given.
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
            # Both set their own level on import.
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
    except Exception as error:  # MLflow lets the errors of SQLAlchemy, sqlite3, urllib3 and its own through
        reason = settings.shown(one_line(error))
        short = reason if len(reason) <= 300 else reason[:300] + "..."
        raise UserError(
            f"tracking store {settings.shown(uri)}: cannot be opened ({short}); "
            "check MLFLOW_TRACKING_URI and its rights"
        ) from error
    return Registry(client, promotion)


def _without_login(uri: str) -> str:
    """`uri` without the login of a web server, which goes into the variables that MLflow reads.

    MLflow puts the address into what it prints and raises, and Prefect keeps that in its logs.
    """
    parts = urlsplit(uri)
    if not parts.scheme.startswith("http") or not parts.password:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _store_lock(uri: str, purpose: str) -> Path:
    """A lock file beside a SQLite store, so that checkouts that share it share the lock.

    Else one of this checkout.
    """
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///"))
        return database.with_name(f"{database.name}.{purpose}.lock")
    return settings.STATE / f"{purpose}.lock"


@contextmanager
def promotion_lock() -> Iterator[None]:
    """Held while the champion moves.

    One promoter at a time on this machine, whatever kills the one before.
    """
    with file_lock(_store_lock(settings.tracking_uri(), "promotion")):
        yield


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for the lock on `path` and hold it; the kernel frees it when the process ends in any way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
