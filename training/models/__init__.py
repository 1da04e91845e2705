"""Networks: pure functions from sizes to ``keras.Model``; they see tensors only."""

from training.models.unet import unet

__all__ = ["unet"]
