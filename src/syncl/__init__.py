"""syncl: end-to-end multi-camera 3D tracking in plain PyTorch.

Importing the package is cheap; the public functions import their machinery on first use.
"""

__version__ = "0.1.0"
