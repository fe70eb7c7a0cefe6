"""Where the images of a collection of The Cancer Imaging Archive lie after its download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.errors import SiteError


def image_folder(root: Path, collection: str, tables: Sequence[str]) -> Path:
    """Folder of a collection's images, relative to `root`: in it, or in the `manifest-...` that the downloader makes.

    `tables` are downloaded apart from the images and lie in `root` itself. `SiteError` says what is missing there and,
    where a folder above or below has all of it, which one to name; or that the collection was downloaded in parts.
    """
    missing = [name for name in tables if not (root / name).is_file()]
    folders = _collections(root, collection)
    if missing or not folders:
        entries = list(root.iterdir())
        named = ", ".join([*missing, *([] if folders else [f"the folder {collection}"])])
        near = [root.resolve().parent, root.resolve().parent.parent, *sorted(item for item in entries if item.is_dir())]
        whole = [item for item in near if _is_whole(item, collection, tables)]
        remedy = (
            f"{whole[0]} has all of it: name that folder"
            if whole
            else f"the tables, a download of their own, lie beside {collection} or beside the manifest-... folder "
            "around it: name the folder in which they lie"
        )
        raise SiteError(f"{root} lacks {named} (entries there: {len(entries)}); {remedy}")
    if len(folders) > 1:
        raise SiteError(f"{root} holds {collection} {len(folders)} times; move all of it into one folder {collection}")
    return folders[0].relative_to(root)


def _collections(root: Path, collection: str) -> list[Path]:
    return sorted(item for item in (root / collection, *root.glob(f"manifest-*/{collection}")) if item.is_dir())


def _is_whole(folder: Path, collection: str, tables: Sequence[str]) -> bool:
    return all((folder / name).is_file() for name in tables) and bool(_collections(folder, collection))
