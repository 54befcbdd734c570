"""What a result was made with: code and machine."""

import os
import platform
import subprocess
from pathlib import Path

import syncl


def commit() -> str:
    """The commit of the running code, `+changes` if the tree differs; the version where there is no git."""
    folder = Path(syncl.__file__).parent

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        changed = "+changes" if git("status", "--porcelain", ".") else ""
        return git("rev-parse", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return f"syncl {syncl.__version__}"


def hardware() -> dict[str, str | int]:
    """What the run was made on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"device": device, "cores": os.cpu_count() or 0, "torch": torch.__version__}
