"""A DINOv2 vision transformer, by timm.

Oquab et al., DINOv2: learning robust visual features without supervision, 2023, arXiv:2304.07193; for scoring
generative models Stein et al., Exposing flaws of generative model evaluation metrics, 2023, arXiv:2306.04675, who find
that distances in it agree with human judgement where FID does not.

timm's own transform prepares the images: it resizes them (bicubic), crops a square and normalizes by the mean and
standard deviation of ImageNet. The features are the class token after the last normalization.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.features import pixels
from lookalike.features.weights import bring, first_line, free, needs, read_brought
from lookalike.workspace.configuration import Config, absolute
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import PositiveInt

KINDS = frozenset({"image"})
"""Kinds of data that it takes."""

PATCH = 14
"""Side of the square that becomes one token, in pixels."""


class DinoV2(nn.Module):
    """timm's network and its transform, for images on the domain's grid.

    Args:
        domain: a domain of images with one channel or three.
        model: timm's name of the network.
        image_size: side that images are resized to, in pixels.
        state: weights by name, as timm or the authors publish them.

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
        """Return features `[N, D]` of grid points `[N, C, H, W]`."""
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
    """Copy the weights into the folder and return the extractor's record.

    Args:
        prepared: the data set.
        config: the configuration of the stage.
        folder: where to write.
        weights: a file, relative to the checkout; None for timm's weights, from Hugging Face or its cache.
        model: timm's name of the network; the defaults of model and size are those of Stein et al.
        image_size: side that images are resized to, in pixels, a multiple of 14.
        batch_size: images per batch, which bounds the memory.
        training_images: largest number of training images among which copies are searched.

    Raises:
        UserError: timm is not installed or has no such model; the weights are not available; the images have neither
            one channel nor three.
    """
    pixels.check(prepared.domain, network="DINOv2")
    if image_size % PATCH:
        raise UserError(f"data.features.image_size={image_size}: choose a multiple of {PATCH}, such as 224")
    check_model(model)
    path = published(model) if weights is None else absolute(weights)
    return bring(path, folder) | {
        "name": f"DINOv2 {model} at {image_size}x{image_size} (timm)",
        "classes": False,
        "model": model,
        "image_size": image_size,
        "batch_size": batch_size,
        "training_images": training_images,
    }


def check_model(model: str) -> None:
    """Raise a UserError that lists timm's DINOv2 models unless this is one of them."""
    with needs("timm", extra="dinov2"):
        import timm
    known = timm.list_pretrained("*dinov2*")
    if model not in known:
        raise UserError(f"data.features.model={model}: timm has {', '.join(known)}")


def published(model: str) -> Path:
    """Return the file of timm's weights of a model, in the cache of Hugging Face or downloaded to it.

    Raises:
        UserError: they are not available.
    """
    with needs("timm", extra="dinov2"):
        from huggingface_hub import hf_hub_download
        from timm.models import get_pretrained_cfg
    repository = get_pretrained_cfg(model).hf_hub_id
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # of the network, of the hub, of its cache: many types, no common base
        raise UserError(
            f"data.features.weights=null: {repository} is not available from Hugging Face ({first_line(error)}). "
            f"Name a file with its weights in data.features.weights"
        ) from None


def load(record: dict[str, Any], domain: Domain, folder: Path) -> nn.Module:
    """Return the frozen network that a record describes.

    Raises:
        UserError: timm is not installed, or the weights are not those that the record names.
    """
    state = read_brought(record, folder)
    return free(DinoV2(domain=domain, model=record["model"], image_size=record["image_size"], state=state))
