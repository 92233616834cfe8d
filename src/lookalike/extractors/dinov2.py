"""A DINOv2 vision transformer, by timm.

Oquab et al., DINOv2: learning robust visual features without supervision, 2023, arXiv:2304.07193; for scoring
generative models Stein et al., Exposing flaws of generative model evaluation metrics, 2023, arXiv:2306.04675, who find
that distances in it agree with people where FID does not.

timm's own transform prepares the images: bicubic to the size below, cropped to a square, mean and deviation of
ImageNet. Features are what the network gives without a last layer: the class token after the last norm.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.core.config import ROOT, Config
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import PositiveInt
from lookalike.data import Prepared
from lookalike.extractors import pixels
from lookalike.extractors.weights import bring, first_line, free, needs, read_brought

PATCH = 14
"""Pixels on a side of what becomes one token."""


class DinoV2(nn.Module):
    """timm's network and its transform behind the domain's grid.

    Args:
        domain: images of one channel or three.
        model: timm's name of it.
        image_size: pixels on a side that images are scaled to.
        state: its weights by name, as timm or the authors publish them.

    Raises:
        UserError: timm is not installed, or the weights are of another network.
    """

    def __init__(self, *, domain: Domain, model: str, image_size: int, state: dict[str, Tensor]) -> None:
        super().__init__()
        with needs("timm", extra="dinov2"):
            import timm
            from timm.data import create_transform, resolve_model_data_config
            from torchvision.transforms.functional import to_pil_image
        self.domain, self.to_pil_image = domain, to_pil_image
        try:
            self.network = timm.create_model(
                model,
                pretrained=True,
                num_classes=0,
                img_size=image_size,
                pretrained_cfg_overlay={"state_dict": state},
            )
        except (RuntimeError, KeyError, AttributeError) as error:
            raise UserError(f"data.features.weights: not weights of {model} ({first_line(error)})") from None
        prepared = resolve_model_data_config(self.network, args={"img_size": image_size})
        self.transform = create_transform(**prepared, is_training=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features `[N, D]` of grid points `[N, C, H, W]`."""
        images = pixels.to_rgb(x, self.domain).cpu()
        seen = torch.stack([self.transform(self.to_pil_image(image)) for image in images])
        features: Tensor = self.network(seen.to(x.device))
        return features


def make(
    prepared: Prepared,
    config: Config,
    folder: Path,
    *,
    weights: str | None = None,
    model: str = "vit_large_patch14_dinov2.lvd142m",
    image_size: PositiveInt = 224,
    batch_size: PositiveInt = 32,
    training_images: PositiveInt = 50_000,
) -> dict[str, Any]:
    """Bring the weights into the folder.

    Args:
        weights: a file, from the repository's folder; none for timm's, in the cache of Hugging Face or downloaded.
        model: timm's name of it; the default and the size are those of Stein et al.
        image_size: pixels on a side that images are scaled to, a multiple of 14.
        batch_size: images at a time: what bounds the memory.
        training_images: among which copies are looked for, at most.

    Raises:
        UserError: timm is not installed or has no such model; the weights can't be had; the images have neither one
            channel nor three.
    """
    pixels.check(prepared.domain, network="DINOv2")
    if image_size % PATCH:
        raise UserError(f"data.features.image_size={image_size}: take a multiple of {PATCH}, such as 224")
    check_model(model)
    path = published(model) if weights is None else ROOT / weights
    return bring(path, folder) | {
        "name": f"DINOv2 {model} at {image_size}x{image_size} (timm)",
        "classes": False,
        "model": model,
        "image_size": image_size,
        "batch_size": batch_size,
        "training_images": training_images,
    }


def check_model(model: str) -> None:
    """Raise a UserError that lists timm's DINOv2 models if this is none of them."""
    with needs("timm", extra="dinov2"):
        import timm
    known = timm.list_pretrained("*dinov2*")
    if model not in known:
        raise UserError(f"data.features.model={model}: timm has {', '.join(known)}")


def published(model: str) -> Path:
    """timm's weights of a model, in the cache of Hugging Face; downloaded where they are not.

    Raises:
        UserError: they can't be had.
    """
    with needs("timm", extra="dinov2"):
        from huggingface_hub import hf_hub_download
        from timm.models import get_pretrained_cfg
    repository = get_pretrained_cfg(model).hf_hub_id
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # of the network, of the hub, of its cache: many types, no common base
        raise UserError(
            f"data.features.weights=null: {repository} can't be had from Hugging Face ({first_line(error)}). Name a "
            f"file with its weights in data.features.weights"
        ) from None


def load(record: dict[str, Any], domain: Domain, folder: Path) -> nn.Module:
    """The frozen network that a record describes.

    Raises:
        UserError: timm is not installed, or the weights are not those that the record names.
    """
    state = read_brought(record, folder)
    return free(DinoV2(domain=domain, model=record["model"], image_size=record["image_size"], state=state))
