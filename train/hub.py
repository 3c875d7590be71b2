"""Uploads a finished adapter folder to the hub. This happens only with --push-to-hub."""

from pathlib import Path

from harness_plugin.errors import TrainError


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
