"""Where the images of a collection of The Cancer Imaging Archive lie after its download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.errors import SiteError


def image_folder(root: Path, collection: str, tables: Sequence[str]) -> Path:
    """Folder of a collection's images, relative to `root`: in it, or in the `manifest-...` that the downloader makes.

    `tables` are downloaded apart from the images and lie in `root` itself. `SiteError` says what is missing there, or
    that the collection was downloaded in parts.
    """
    missing = [name for name in tables if not (root / name).is_file()]
    folders = sorted(item for item in (root / collection, *root.glob(f"manifest-*/{collection}")) if item.is_dir())
    if missing or not folders:
        entries = sum(1 for _ in root.iterdir())
        named = ", ".join([*missing, *([] if folders else [f"the folder {collection}"])])
        raise SiteError(
            f"{root} lacks {named} among its {entries} entries; the tables lie beside {collection}, or beside the "
            f"manifest-... folder that holds it"
        )
    if len(folders) > 1:
        raise SiteError(f"{root} holds {collection} {len(folders)} times; move all of it into one folder {collection}")
    return folders[0].relative_to(root)
