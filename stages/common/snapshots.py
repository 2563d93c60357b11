"""The one place that may reach the Hugging Face hub: what params.yaml names by an id there."""

from __future__ import annotations

from pathlib import Path

from stages.common.errors import UserError, one_line

TABLES = ["README.md", "*.jsonl", "*.json", "*.parquet", "*.csv"]


def dataset_folder(name: str, fetch: bool) -> Path:
    """The folder with the files of a data set, `owner/name` or `owner/name@revision`, in HF's cache.

    Its last part is the revision's commit. Without `fetch` only what is there already is taken: the stage
    `sources` fetches. Raises `UserError` as `snapshot`.
    """
    remedy = "or name a folder with its files"
    dataset, _, revision = name.partition("@")
    return snapshot("evaluate.suites", dataset, revision or None, TABLES, remedy, "dataset", fetch)


def snapshot(
    key: str,
    name: str,
    revision: str | None,
    allowed: list[str],
    remedy: str,
    kind: str = "model",
    fetch: bool = True,
) -> Path:
    """The folder in HF's cache with the `allowed` files of `name`, which `key` of params.yaml names; `remedy`
    is what else a user can do. Raises `UserError` when it is not there and cannot be fetched.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name,
            repo_type=kind,
            revision=revision,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=allowed,
            local_files_only=constants.HF_HUB_OFFLINE or not fetch,
        )
    except LocalEntryNotFoundError as error:
        why = (
            "HF_HUB_OFFLINE is set; run `HF_HUB_OFFLINE=0 gorn run` once (or `dvc repro` in its place), "
            f"{remedy}"
            if constants.HF_HUB_OFFLINE
            else f"the hub cannot be reached; look at the network, {remedy}"
        )
        raise UserError(f"params.yaml: {key} {name} is not in the Hugging Face cache and {why}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(f"params.yaml: {key} {name} cannot be fetched ({one_line(error)})") from error
    return Path(found)
