"""The media store: one bounded JPEG an image, by content hash, in a folder or at an fsspec URL."""

from worker.media.store import MediaStore, existing_media, folder_of

__all__ = ["MediaStore", "existing_media", "folder_of"]
