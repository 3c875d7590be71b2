"""Uploads a finished adapter folder to the hub. This happens only with --push-to-hub."""

from pathlib import Path

from harness_plugin.errors import TrainError, UsageError


def check(repository: str) -> None:
    """Raises UsageError, before a run, if its adapter could not be uploaded to `repository` after it: for a name that
    the hub does not allow, with HF_HUB_OFFLINE=1, and if nobody is logged in."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    after, option = "the upload after the training would fail", f"--push-to-hub {repository}"
    try:
        validate_repo_id(repository)
    except HFValidationError as e:
        raise UsageError(f"{option} ({str(e).splitlines()[0][:160]})", after, "name it as OWNER/NAME") from e
    if constants.HF_HUB_OFFLINE:
        raise UsageError(f"{option} with HF_HUB_OFFLINE=1", after, "unset HF_HUB_OFFLINE, or leave the option out")
    if get_token() is None:
        raise UsageError(f"{option}, and nobody is logged in to the hub", after, "run `hf auth login`")


def push(folder: Path, repository: str) -> str:
    """Uploads the folder to `repository`, which is made private if it is new, and returns its address.

    Raises TrainError if that fails; the folder stays as it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi()
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Adapter, manifest and card")
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as e:
        raise TrainError(
            f"{repository} could not be written ({str(e).strip().splitlines()[0][:160]})",
            f"the upload failed, and the adapter is complete in {folder}",
            "log in with `hf auth login` and upload the folder with `hf upload`",
        ) from e
    return f"https://huggingface.co/{repository}"
