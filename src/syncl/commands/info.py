"""`syncl info`."""


def info() -> dict[str, str]:
    """Say what is installed and what it runs on: versions, devices, extras. Reports of bugs ask for it.

    Returns:
        The same, by name.
    """
    import importlib.metadata
    import os
    import platform
    import re
    import sys

    import torch

    from syncl import __version__
    from syncl.runs.provenance import commit

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    required: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("syncl") or ():
        name = re.split(r"[^\w.-]", line)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        (extras.setdefault(extra[1], []) if extra else required).append(name)
    cuda = range(torch.cuda.device_count())
    devices = [f"{torch.cuda.get_device_name(n)} (CUDA {torch.version.cuda})" for n in cuda]
    found = {
        "syncl": f"{__version__} ({commit()})",
        "python": f"{sys.version.split()[0]}, {platform.platform()}",
        "device": ", ".join(devices) or f"CPU only, {platform.machine()}",
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads",
        "packages": ", ".join(f"{name} {version(name) or 'missing'}" for name in required),
        "extras": ", ".join(sorted(name for name, parts in extras.items() if all(map(version, parts))))
        or "none",
    }
    for name, text in found.items():
        sys.stdout.write(f"{name + ':':<10} {text}\n")
    return found
