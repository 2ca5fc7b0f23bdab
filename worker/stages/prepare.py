"""The prepare stage: a gathered post becomes pixels and text windows."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model.pictures.decode import ImageError, ImageLimits, ResizeMode, decode_picture
from worker.errors import InvalidPost, Reason, TransientError
from worker.media import MediaStore
from worker.types import DeadLettered, Gathered, ImageRef, Prepared, PreparedImage
from worker.windows import text_windows

STAGE = "prepare"
_THUMBNAIL_SIDE = 384
_NOT_THE_POSTS_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)


class ImageLoader(Protocol):
    """Where the bytes of an image come from that was not fetched. Thread-safe."""

    def load(self, ref: ImageRef) -> bytes:
        """Return the file's bytes; may block for the disk.

        Raises:
            InvalidPost: it cannot or must not be loaded.
            TransientError: it may be loaded later.
        """


@dataclass(frozen=True, slots=True)
class LocalLoader:
    """Images inside the post, and files below one root.

    Args:
        media_root: folder below which a path may lie; None refuses every path. Its own links are followed
            once.
        max_bytes: of one file.
    """

    media_root: Path | None
    max_bytes: int

    def __post_init__(self) -> None:
        if self.media_root is not None:
            object.__setattr__(self, "media_root", self.media_root.resolve())

    def load(self, ref: ImageRef) -> bytes:
        if ref.data is not None:
            return ref.data
        if ref.path is not None:
            return self._read(ref.path)
        raise InvalidPost(Reason.IMAGE_REFUSED, f"image {ref.id!r}: addresses are not fetched by this worker")

    def _read(self, name: str) -> bytes:
        shown = f"image path {name[:200]!r}"
        if self.media_root is None:
            raise InvalidPost(Reason.IMAGE_REFUSED, f"{shown}: no media root is configured")
        try:
            path = (self.media_root / name).resolve()  # links are followed first, then judged
            if not path.is_relative_to(self.media_root):
                raise InvalidPost(Reason.IMAGE_REFUSED, f"{shown} leads out of the media root")
            if not path.is_file():  # devices and pipes could block for ever
                raise InvalidPost(Reason.IMAGE_UNAVAILABLE, f"{shown}: no such file")
            with path.open("rb") as file:
                return file.read(self.max_bytes + 1)  # one more, so that the decoder sees that it is over
        except OSError as error:
            if error.errno in _NOT_THE_POSTS_FAULT:
                raise TransientError(f"images cannot be read: {error.strerror}") from error
            raise InvalidPost(Reason.IMAGE_UNAVAILABLE, f"{shown}: {error.strerror}") from error
        except (ValueError, RuntimeError) as error:  # a NUL or lone surrogate in the name, a loop of links
            raise InvalidPost(Reason.IMAGE_UNAVAILABLE, f"{shown}: not a usable path") from error


class Preparer:
    """Prepares one post at a time. Thread-safe.

    Args:
        loader: where images come from.
        image_size: side of the model's input, pixels.
        resize_mode: of the checkpoint.
        limits: of one image.
        fits: whether a text fits the model's context, and its explanation too if the model reads those.
        media: where thumbnails are kept; None for nowhere.
        media_side: longer side of a thumbnail, pixels.
        next_input: size and resize mode of the model that takes this one's place; None where there is none.
    """

    def __init__(
        self,
        loader: ImageLoader,
        *,
        image_size: int,
        resize_mode: ResizeMode,
        limits: ImageLimits,
        fits: Callable[[str, str], bool],
        media: MediaStore | None = None,
        media_side: int = _THUMBNAIL_SIDE,
        next_input: tuple[int, ResizeMode] | None = None,
    ) -> None:
        self._loader, self._limits, self._fits, self._media = loader, limits, fits, media
        self._input: tuple[int, ResizeMode] = (image_size, resize_mode)
        self._next_input = None if next_input == self._input else next_input
        self._media_side = media_side
        self._target = max(image_size, next_input[0] if next_input else 0)
        self._longer_side = media_side if media else 0

    def prepare(self, post: Gathered) -> Prepared | DeadLettered:
        """Load, decode and cut; blocks for the disk. Gives back the memory of what was fetched.

        Raises:
            TransientError: the disk or the media store is away; the same call may be made again.
        """
        try:
            images = tuple(self._image(ref, post.fetched.get(ref.id)) for ref in post.post.images)
        except InvalidPost as error:
            post.release()
            return DeadLettered(post.record, error.reason, error.detail, STAGE)
        post.release()
        windows = text_windows(post.post.text, lambda text: self._fits(text, post.explanation.text))
        if not images and not windows:
            return DeadLettered(post.record, Reason.EMPTY_POST, "neither text nor image", STAGE)
        return Prepared(post.record, post.post, images, windows, post.explanation)

    def _image(self, ref: ImageRef, fetched: bytes | None) -> PreparedImage:
        data = self._loader.load(ref) if fetched is None else fetched
        try:
            picture = decode_picture(
                data, target=self._target, longer_side=self._longer_side, limits=self._limits
            )
        except ImageError as error:
            raise InvalidPost(Reason(error.reason.value), f"image {ref.id!r}: {error}") from error
        content_hash = hashlib.sha256(data).hexdigest()
        if self._media is not None:
            self._media.put(content_hash, picture.thumbnail(self._media_side))
        pixels = picture.for_model(*self._input)
        beside = None if self._next_input is None else picture.for_model(*self._next_input)
        return PreparedImage(ref.id, pixels, content_hash, next_pixels=beside)
