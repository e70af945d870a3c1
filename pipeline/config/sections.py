"""The sections of a configuration: names, types, ranges and defaults. Plain data; reading a file is `config`'s work."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stillroom.pipeline.augment.operations.colour.twist import Colour
from stillroom.pipeline.augment.operations.geometry.crop import Crop, Resize
from stillroom.pipeline.augment.operations.geometry.flip import Flip
from stillroom.pipeline.augment.presets import PRESETS, preset_settings
from stillroom.pipeline.augment.recipe import RANGES, Recipe
from stillroom.storage.codecs.kinds import parse_codec
from stillroom.storage.dataset.encoded_images import ENCODED_MB, Allowance
from stillroom.storage.errors import ConfigError

from .types import Augmentation, Name, PairMix, Positive, Precision, Share, Source, Uint64, Url
from .weights_names import PYTHON, parse_weights


class Section(BaseModel):
    """A table of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Run(Section):
    """Where a run lives."""

    name: Name = "run"
    dir: Url = Field(description="folder or URL into which everything else defaults")


class Data(Section):
    """The images."""

    train: Source = Field(
        description='a folder of class folders, WebDataset tars ("…/{000..127}.tar"), or "torchvision:NAME?split=…"; '
        "see [data.md](data.md)"
    )
    eval: Source | None = Field(None, description="the same for evaluation; without it, no accuracy is measured")
    holdout: float = Field(
        0.0, ge=0.0, lt=1.0, description="without `eval`: share of a training folder that is kept for evaluation"
    )
    labels: bool = Field(
        True,
        description="false: what classes the training images have, if any, is not looked at; see [data.md](data.md)",
    )
    samples_per_shard: int = Field(1000, ge=2, description="images in a data shard that ingest writes")
    max_pixels: int = Field(100_000_000, ge=1, description="an image whose header claims more is rejected undecoded")
    max_side: int | None = Field(
        None,
        ge=32,
        description="longer side in pixels that training images have at most: ingest makes larger ones smaller, once, "
        "and teacher and student see those; default: images stay as they are. See [data.md](data.md)",
    )
    max_rejected: Share = Field(0.01, description="ingest stops where a larger share of the images is rejected")
    eval_crop: float = Field(
        0.875, gt=0.0, le=1.0, description="centred square cut for evaluation, of the shorter side"
    )
    eval_resize: Resize = Field(
        "bilinear", description="filter from that square to the evaluated size; `views.resize` has the same choice"
    )
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="names in label order; for tars, and for eval with them"
    )
    download: Url = Field("runs/download", description="local folder of torchvision's data sets, which runs share")
    dir: Url | None = Field(None, description="ingested training data; default <run.dir>/data")
    eval_dir: Url | None = Field(None, description="ingested evaluation data; default <run.dir>/eval")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.eval is not None and self.holdout:
            raise ValueError("data.eval and data.holdout both name an evaluation set; give one of them")
        if self.holdout and not self.labels:
            raise ValueError(
                f"data.holdout is {self.holdout}, and data.labels is false: images without labels cannot evaluate; "
                "give labelled images of the teacher's own task as data.eval"
            )
        if "://" in self.download:
            raise ValueError(f"data.download is {self.download!r}; torchvision downloads to local folders only")
        return self

    @property
    def evaluates(self) -> bool:
        """Whether there is an evaluation set."""
        return self.eval is not None or self.holdout > 0.0


def _as_in(operation: type[BaseModel], name: str) -> Any:
    """A range of an operation as a setting: its default, its limits and what is said of it."""
    return operation.model_fields[name]


class Views(Section):
    """The recipe, and how many views of each sample there are."""

    count: int = Field(30, ge=1, description="views of each sample")
    seed: Uint64 = Field(0, description="root seed of all views")
    views_per_block: int = Field(10, ge=1, description="views in one task and one Zarr shard")
    preset: str | None = Field(
        None, description=f"a recipe to start from; what else is given here changes it: {', '.join(PRESETS)}"
    )
    area: tuple[float, float] = _as_in(Crop, "area")
    aspect: tuple[float, float] = _as_in(Crop, "aspect")
    crop: Literal["random", "centre"] = _as_in(Crop, "crop")
    crop_share: float = _as_in(Crop, "crop_share")
    resize: Resize = _as_in(Crop, "resize")
    flip: bool = _as_in(Flip, "flip")
    mixup: bool = Field(
        True, description="true: function matching, every pair mixed by a uniform λ; false: consistent teaching"
    )
    brightness: float = _as_in(Colour, "brightness")
    contrast: float = _as_in(Colour, "contrast")
    saturation: float = _as_in(Colour, "saturation")
    hue: float = _as_in(Colour, "hue")
    augment: tuple[Augmentation, ...] = Field(
        (),
        description="further operations in this order, each by its name, `op`, and its ranges; see "
        "[augmentations.md](augmentations.md)",
    )
    mix: tuple[PairMix, ...] = Field(
        (),
        description="instead of `mixup`: how pairs are mixed, each with `p`, its share of the pairs; see "
        "[augmentations.md](augmentations.md)",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("mix") and given.get("mixup") is False:
            raise ValueError("views.mix says how pairs are mixed, and views.mixup = false that they are not; give one")
        settings: dict[str, Any] = {}
        if given.get("preset") is not None:
            try:
                settings = dict(preset_settings(str(given["preset"])))
            except ConfigError as error:
                raise ValueError(str(error)) from error
        if "mixup" in given:
            settings.pop("mix", None)
        merged = {**settings, **given}
        return {**merged, "mixup": True} if merged.get("mix") else merged

    @model_validator(mode="after")
    def _is_a_recipe(self) -> Self:
        try:
            _ = self.recipe
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(str(first.get("ctx", {}).get("error", first["msg"]))) from error
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        if self.count % self.views_per_block:
            below = self.count - self.count % self.views_per_block
            raise ValueError(
                f"views.count is {self.count}, not a multiple of views.views_per_block ({self.views_per_block}); "
                f"use {f'{below} or ' if below else ''}{below + self.views_per_block} views, "
                "or another views_per_block"
            )
        return self

    @property
    def recipe(self) -> Recipe:
        return Recipe.of(self.augment, self.mix, self.mixup, **{name: getattr(self, name) for name in RANGES})


class Render(Section):
    """How views are rendered; nothing here changes a pixel except the backend."""

    backend: Literal["auto", "integer-cpu", "dali-cpu", "dali-gpu"] = Field(
        "auto",
        description="auto: the cache's own where there is one; else dali-gpu where there is a GPU, integer-cpu, or "
        "dali-cpu where the recipe has operations that only DALI applies",
    )
    allow_drift: Literal["integer-cpu", "dali-cpu", "dali-gpu"] | None = Field(
        None,
        description="the backend that students render on, even if the cache was made on the other: their views are "
        "then not proved, and by how much they differ is measured on the canaries and said",
    )
    threads: int = Field(0, ge=0, description="CPU threads of DALI; 0 for one per core")
    memory_mb: int = Field(
        1024,
        ge=16,
        description="rendered views that the teacher stage holds at once, at most; as much again of a view's logits, "
        "and of what is encoded of a block",
    )
    encoded_mb: int = Field(
        ENCODED_MB,
        ge=0,
        description="encoded images that a process holds at once, at most; data shards that do not fit are read image "
        "by image, with the same result; see [memory.md](memory.md)",
    )

    @property
    def encoded(self) -> Allowance:
        """A new allowance of encoded images."""
        return Allowance(self.encoded_mb * 2**20)


class Teacher(Section):
    """A model whose logits are cached."""

    LATER: ClassVar[Mapping[str, Any]] = {"compile": False, "graph": False, "checkpoint_key": None, "classes": None}
    """Settings that came after the first caches, with what held before; see `storage.fingerprint.stated`."""

    name: Name
    model: str = Field(
        description='"torchvision:NAME" or "timm:NAME"; "python:NAME" for a module that a program of yours hands to '
        "`stillroom.teacher`"
    )
    weights: Url = Field(
        "",
        validate_default=True,
        description='required, but for "python:NAME": a file (.safetensors, .pth, .pth.tar, .ckpt, .bin, .npz), '
        '"pretrained" for the library\'s own, or "hf://org/repo/file@revision"; see [teachers.md](teachers.md)',
    )
    checkpoint_key: str | None = Field(
        None,
        description="which of a checkpoint's state dicts: its key, with nested keys and a prefix of names after dots, "
        'such as "state_dict.ema_model"; default: the first of those that [teachers.md](teachers.md) lists',
    )
    classes: int | tuple[str, ...] | None = Field(
        None,
        description="how many classes the teacher tells apart, or their names, where they are its own and not the data "
        "set's: students then have the teacher's, and labels are not looked at; see [teachers.md](teachers.md)",
    )
    size: int = Field(224, ge=1, description="height and width in pixels of its views")
    batch_size: int = Field(64, ge=1)
    precision: Precision = "float32"
    compile: bool = Field(False, description="by torch.compile: other kernels, so other roundings and another teacher")
    graph: bool = Field(
        False, description="on a GPU, launch each forward pass as one CUDA graph; pays with small batches"
    )
    mean: tuple[float, float, float] | None = Field(None, description="of pixels in [0, 1]; default: the model's own")
    std: tuple[Positive, Positive, Positive] | None = Field(
        None, description="of pixels in [0, 1]; default: the model's own"
    )

    @field_validator("weights")
    @classmethod
    def _named_weights(cls, value: str, info: ValidationInfo) -> str:
        model = info.data.get("model", "")
        if not value and model.partition(":")[0] != PYTHON:
            raise PydanticCustomError("missing", "Field required")
        try:
            parse_weights(model, value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("classes")
    @classmethod
    def _at_least_two(cls, value: int | tuple[str, ...] | None) -> int | tuple[str, ...] | None:
        count = len(value) if isinstance(value, tuple) else value
        if count is not None and count < 2:
            raise ValueError(f"classes is {value!r}; a teacher tells two classes apart or more")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError("classes names one class twice; give one name for each logit, in their order")
        return value

    @model_validator(mode="after")
    def _settings_of_a_file(self) -> Self:
        if not self.weights and (self.compile or self.graph):
            raise ValueError(
                f"teacher {self.name!r} has {'compile' if self.compile else 'graph'} = true, which is for models that "
                "stillroom builds; compile the module that stillroom.teacher is given yourself"
            )
        if self.checkpoint_key is not None and not self.weights:
            raise ValueError(f"teacher {self.name!r} has a checkpoint_key, and no file of weights that it could be of")
        return self


class CacheSection(Section):
    """How logits are kept."""

    codec: str = Field(
        "float16",
        description="float16, float32, int8, topk[:K], sqrtp[:STEP], or transform, which alone holds a bound; "
        "see [codecs.md](codecs.md)",
    )
    temperatures: tuple[float, ...] = Field(
        (1.0, 2.0, 5.0, 10.0),
        min_length=1,
        description="at which every block's loss is measured, and at which transform holds its bound",
    )
    max_kl: float = Field(
        0.02, gt=0.0, description="transform: nats times T² that a view may lose at each temperature, on average"
    )
    pilot_samples: int = Field(300, ge=2, description="transform and estimate: samples that the teacher sees first")
    pilot_views: int = Field(
        8, ge=1, description="views of each; more where there are fewer samples. 2,000 views in all make a good fit"
    )
    canaries: int = Field(16, ge=0, description="views that are kept whole")
    plain: bool = Field(
        False, description="also keep the teacher's logits of each sample's plain view, which is cut as for evaluation"
    )
    dir: Url | None = Field(None, description="default <run.dir>/cache")

    @field_validator("codec")
    @classmethod
    def _known_codec(cls, value: str) -> str:
        try:
            parse_codec(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("temperatures")
    @classmethod
    def _temperatures(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for place, temperature in enumerate(value):
            if not 0.1 <= temperature <= 100.0:
                raise ValueError(
                    f"cache.temperatures[{place}] is {temperature}; softmax temperatures lie in [0.1, 100]"
                )
        # Their order means nothing: two configs that name the same ones ask for the same.
        return tuple(sorted(set(value)))

    @field_validator("max_kl")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not isfinite(value):
            raise ValueError(f"cache.max_kl is {value}; it is in nats, above 0 (0.02 is a good start)")
        return value


class Verify(Section):
    """How much `stillroom verify` does again."""

    share: Share = Field(0.01, description="share of the cached views that are rendered and classified again")
    seed: Uint64 = Field(0, description="chooses which")
    max_kl: float | None = Field(
        None,
        gt=0.0,
        description="nats by which the teacher may differ from the cache in a view; default 1e-3, bfloat16: 2e-2",
    )


class Student(Section):
    """A model that learns from the cache, from a teacher in the loop, or from labels."""

    model_config = ConfigDict(allow_inf_nan=False)

    LATER: ClassVar[Mapping[str, Any]] = {"compile": False}
    """As for a teacher."""

    name: Name = "student"
    target: Literal["cache", "online", "labels"] = "cache"
    teacher: str | tuple[str, ...] | None = Field(
        None, description="name of the teacher to learn from, or several whose logits are averaged; default: the first"
    )
    teacher_weights: tuple[float, ...] | None = Field(None, description="of several teachers in their mean; all alike")
    design: Literal["fixed", "independent", "consistent"] = Field(
        "consistent",
        description="how views and logits are paired. consistent: the same view, and with `views.mixup` function "
        "matching; independent: logits of another view; fixed: logits of the plain view, see `cache.plain`",
    )
    views_used: int | None = Field(None, ge=1, description="views that are replayed; default: all")
    model: str = Field("torchvision:resnet18", description='"torchvision:NAME" or "timm:NAME"')
    size: int = Field(224, ge=1, description="height and width in pixels of its views")
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1, description="pieces of a batch whose gradients are added up; saves memory")
    temperature: float = Field(1.0, gt=0.0)
    weights: Url | None = Field(None, description="local weights to start from; a head of other classes is made anew")
    label_weight: Share = Field(0.0, description="share of cross entropy against the labels in the loss")
    ema: float = Field(0.0, ge=0.0, lt=1.0, description="decay of the averaged weights that are evaluated; 0 for none")
    optimizer: Literal["adamw", "sgd", "lamb", "shampoo"] = "adamw"
    schedule: Literal["cosine", "quadratic", "constant"] | None = Field(
        None, description="of the learning rate, after the warm-up; default cosine, with Shampoo quadratic"
    )
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="of SGD and Shampoo")
    precondition_steps: int = Field(1, ge=1, description="steps between Shampoo's matrix inversions")
    learning_rate: float = Field(1e-3, gt=0.0)
    weight_decay: float = Field(1e-4, ge=0.0, description="decoupled; on kernels only")
    warmup_steps: int | None = Field(None, ge=0, description="default: a twentieth of all steps, 1500 at most")
    clip: float = Field(1.0, gt=0.0, description="global norm of the gradient at most")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on GPUs that have it")
    compile: bool = Field(False, description="by torch.compile: other kernels, so other roundings and another student")
    seed: Uint64 = Field(0, description="of the first weights and of the order of samples")
    lane_window: int = Field(2, ge=1, description="data shards of a lane that are held and shuffled together")
    proof_share: Share = Field(
        1.0 / 32, description="share of the batches proved where the student's size is not the teacher's; else all are"
    )
    eval_epochs: int = Field(1, ge=1, description="epochs between evaluations")
    checkpoint_minutes: float = Field(10.0, ge=0.0, description="between checkpoints; 0 for one after each step")
    dir: Url | None = Field(None, description="default <run.dir>/students/<name>")


def as_list(value: Any) -> Any:
    """A single table where several are allowed, `[student]` for `[[student]]`."""
    return [value] if isinstance(value, dict) else value
