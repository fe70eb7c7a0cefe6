"""Centres of the phantom as hospitals: nothing that can be told says that they are phantoms."""

import shutil


def as_hospital(centre, folder):
    """Copy a phantom centre's folder to `folder`, without what makes it known as a phantom."""
    shutil.copytree(centre, folder, ignore=shutil.ignore_patterns(".phantom"))
    settings = folder / "site.toml"
    settings.write_text(settings.read_text().replace('kind = "phantom"\n', ""))
    return folder
